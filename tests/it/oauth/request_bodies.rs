//! The notation of a content type, and the description of forms in the OpenAPI document.

use super::{GRANT, form, gate};
use crate::harness::json;
use crate::openapi::Document;

/// Blanks may surround a semicolon, and a parameter may be missing after it (RFC 9110 §5.6.6).
#[test]
fn content_type__parameters_by_the_letter() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let bodies = [
        ("application/json", json!({"clientSecret": domain.secret}).to_string()),
        ("application/x-www-form-urlencoded", form(&domain, GRANT)),
    ];
    for (kind, body) in &bodies {
        let send = |parameters: &str| gate.post("/token").body(&format!("{kind}{parameters}"), body.as_str()).send();
        for read in [
            "",
            ";",
            " ;",
            " ; charset=utf-8",
            "\t;\tcharset=UTF-8",
            ";charset=\"utf-8\" ;",
            "; boundary=x; CHARSET=utf-8",
        ] {
            send(read).expect(200);
        }
        for other in [
            " ; charset=utf-16",
            ";charset=utf-8 ; charset=latin1",
            "; charset",
            "; charset=",
            "; charset =utf-16",
            "; a=b ;CharSet=\"euc-kr\"",
        ] {
            let refused = send(other).refused(415, "media_type");
            assert!(refused["message"].as_str().is_some_and(|text| text.contains("UTF-8")), "{kind}{other}: {refused}");
        }
    }
}

/// Every coding is read, not only the first, and codings have no case (RFC 9110 §8.4.1).
#[test]
fn content_encoding__in_several_headers() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret});
    let send = |codings: &[&str]| {
        let request = gate.post("/token").json(&body);
        codings.iter().fold(request, |request, coding| request.header("Content-Encoding", coding)).send()
    };
    for read in [&["identity"][..], &["Identity"], &["identity", "IDENTITY"]] {
        send(read).expect(200);
    }
    for coded in
        [&["identity", "gzip"][..], &["gzip", "identity"], &["identity", "\u{ff}"], &["identity", "identity, br"]]
    {
        send(coded).refused(415, "media_type");
    }
}

/// openapi-generator joins the values of a list with commas by default, and a form has no `null`.
#[test]
fn openapi__members_of_forms() {
    let document = Document::of(&gate(&[]));
    for (name, operation) in document.operations() {
        let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"];
        let schema = document.resolve(&form["schema"]);
        for (member, described) in schema["properties"].as_object().into_iter().flatten() {
            let described = document.resolve(described);
            assert!(described["type"].is_string(), "{name}: {member} is {described}");
            let repeats = described["type"] == "array";
            assert_eq!(form["encoding"][member]["explode"] == true, repeats, "{name}: {member}");
        }
    }
}
