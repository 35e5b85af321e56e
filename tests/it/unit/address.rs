//! Addresses that are not public, at the edges of their networks.

use gatebird::verification::address::is_public;

fn is_public_text(text: &str) -> bool {
    is_public(text.parse().expect("an address"))
}

/// The first and the last address of each network, and their public neighbours.
#[test]
fn is_public__edges_of_ipv4_networks() {
    for (before, first, last, after) in [
        ("", "0.0.0.0", "0.255.255.255", "1.0.0.0"),
        ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
        ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
        ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
        ("168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"),
        ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
        ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
        ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"),
        ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
        ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"),
        ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
        ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
        ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
        ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
        ("223.255.255.255", "224.0.0.0", "255.255.255.255", ""),
    ] {
        assert!(!is_public_text(first) && !is_public_text(last), "{first} to {last}");
        for neighbour in [before, after].into_iter().filter(|text| !text.is_empty()) {
            assert!(is_public_text(neighbour), "{neighbour}");
        }
    }
}

#[test]
fn is_public__private_addresses() {
    for text in [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.192",
        "255.255.255.255",
        "239.255.255.250",
        "::",
        "::1",
        "::2",
        "::127.0.0.1", // compatible
        "::8.8.8.8",
        "::ffff:127.0.0.1", // mapped
        "::ffff:7f00:1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1", // translated (RFC 2765)
        "64:ff9b::7f00:1",    // NAT64
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::a00:1", // local NAT64 (RFC 8215)
        "100::1",           // discard
        "2001::1",          // Teredo
        "2001:0:7f00:1::",
        "2001:2::1",  // benchmarks
        "2001:10::1", // ORCHID
        "2001:20::1",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8::1",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "2002:7f00:1::1", // 6to4
        "2002:a9fe:a9fe::1",
        "3ffe::1",
        "3fff::1",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        "4000::1",
        "5f00::1", // segment routing (RFC 9602)
        "1fff:ffff::1",
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::1",
        "febf:ffff::1",
        "fec0::1", // site-local
        "ff02::1",
        "ff0e::1",
    ] {
        assert!(!is_public_text(text), "{text}");
    }
}

#[test]
fn is_public__public_addresses() {
    for text in ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2001:200::1", "2a00::1", "3ffd::1"] {
        assert!(is_public_text(text), "{text}");
    }
    for text in ["2001:db7::1", "2001:db9::1", "2003::1", "3fff:1000::1", "2000::1"] {
        assert!(is_public_text(text), "{text}");
    }
}
