//! A gate for the tests of a program that protects routes with this library.
//!
//! ```
//! use std::time::Duration;
//!
//! use actix_web::{App, get, test};
//! use gatebird::testing::TestGate;
//! use gatebird::{Bearer, Error};
//!
//! #[get("/orders")]
//! async fn orders(token: Bearer) -> Result<String, Error> {
//!     Ok(format!("orders of user {}", token.tenant().get()))
//! }
//!
//! # actix_web::rt::System::new().block_on(async {
//! let gate = TestGate::start();
//! let shop = gate.tenant("alice");
//! let service = test::init_service(App::new().app_data(gate.app()).service(orders)).await;
//! let ask = || test::TestRequest::get().uri("/orders").insert_header(("Authorization", shop.access_token("posts:read")));
//!
//! assert_eq!(test::call_service(&service, ask().to_request()).await.status(), 200);
//! let earlier = ask().to_request();
//! gate.advance(Duration::from_secs(60));
//! assert_eq!(test::call_service(&service, earlier).await.status(), 419);
//! # });
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web;

use crate::actions::accounts::Signup;
use crate::actions::domains;
use crate::app::{self, App, Clock};
use crate::config::Config;
use crate::db::audit::{Actor, Audited};
use crate::db::domain::NewDomain;
use crate::db::{Conn, user};
use crate::id::{DomainId, TokenId, UserId};
use crate::plan::Plan;

/// A running gate on a SQLite database in a temporary folder, which is removed when the gate is dropped. The clock stands until
/// [`TestGate::advance`] moves it.
pub struct TestGate {
    app: web::Data<App>,
    clock: Arc<TestClock>,
    folder: PathBuf,
}

struct TestClock {
    started_at: i64,
    /// In nanoseconds.
    passed: AtomicU64,
}

impl Clock for Arc<TestClock> {
    fn now(&self) -> i64 {
        self.started_at + (self.steady() / 1_000_000_000) as i64
    }

    fn steady(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl TestGate {
    /// Starts a gate with the default settings.
    ///
    /// # Panics
    /// If the temporary folder cannot be used.
    pub fn start() -> TestGate {
        TestGate::with(&[])
    }

    /// Starts a gate with these settings. Routes with scopes of their own need `("SCOPES", "orders:read orders:write")`.
    ///
    /// # Panics
    /// If a setting is invalid, or the temporary folder cannot be used.
    pub fn with(settings: &[(&str, &str)]) -> TestGate {
        let folder = std::env::temp_dir().join(format!("gatebird-test-{}", TokenId::random()));
        let url = format!("sqlite://{}", folder.join("gatebird.db").display());
        let settings = [settings, &[("DATABASE_URL", &*url), ("METRICS_ADDR", "off"), ("BCRYPT_COST", "4")]].concat();
        let get = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        let config = Config::load(get).unwrap_or_else(|problems| panic!("{problems}"));
        let clock = Arc::new(TestClock { started_at: app::system_time(), passed: AtomicU64::new(0) });
        let app = App::start_with_clock(config, Box::new(Arc::clone(&clock)));
        let app = app.unwrap_or_else(|exit| panic!("{}", exit.line));
        TestGate { app, clock, folder }
    }

    /// Returns the data that extractors need. Pass it to [`actix_web::App::app_data`].
    pub fn app(&self) -> web::Data<App> {
        self.app.clone()
    }

    /// Creates a user with a domain on the plan with the highest limit.
    ///
    /// # Panics
    /// If the username is malformed or taken.
    pub fn tenant(&self, username: &str) -> TestTenant {
        let signup = Signup::parse(username, None).unwrap_or_else(|error| panic!("{username}: {error}"));
        let now = self.app.now();
        let user = signup.with_hash(String::new(), now);
        let host = format!("{}.example.com", TokenId::random());
        let host = domains::host(&host, self.app.config.local_hosts).expect("a host name");
        let new = NewDomain { host, plan: Plan::HIGHEST, scopes: None, audiences: None, jwks: None };
        let insert = |conn: &mut Conn| {
            let user = user::insert(conn, &user)?.id;
            let registered = domains::register_row(conn, Actor::SERVER, user, &new, now)?;
            Ok::<Audited<_>, _>(registered.map(|(domain, _)| (user, domain.id)))
        };
        let inserted = self.app.write_now(insert);
        let (user, domain) = inserted.unwrap_or_else(|error| panic!("{username}: {error}"));
        TestTenant { app: self.app(), user, domain }
    }

    /// Moves the clock forward. Tokens expire by it, and limits recover.
    pub fn advance(&self, time: Duration) {
        self.clock.passed.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Drop for TestGate {
    fn drop(&mut self) {
        // The operating system removes what is left in its temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A user with a domain. [`TestGate::tenant`] creates one.
pub struct TestTenant {
    app: web::Data<App>,
    user: UserId,
    domain: DomainId,
}

impl TestTenant {
    /// Returns the user, as [`Bearer::tenant`](crate::Bearer::tenant) does.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Issues an access token of the domain with these scopes, separated by spaces.
    ///
    /// # Panics
    /// If the domain was deleted.
    pub fn access_token(&self, scope: &str) -> String {
        let client = self.app.directory.by_id(&self.domain).expect("the domain is there");
        self.app.access_token(&client, scope, &[&self.app.config.issuer]).0
    }

    /// Issues a user token, which has every scope.
    ///
    /// # Panics
    /// If the user was deleted.
    pub fn user_token(&self) -> String {
        let tenant = self.app.directory.tenant(self.user.get()).expect("the user is there");
        self.app.user_token(&tenant)
    }
}
