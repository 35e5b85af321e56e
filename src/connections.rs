//! Clients that neither finish what they began nor go away. actix-web gives the first head of a connection ten seconds, and
//! an idle one thirty, but waits for ever for the rest of a later head, for the end of a chunked body that nobody reads, and
//! for a client that does not read its answers.

use std::any::Any;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::rt::net::TcpStream;
use socket2::{SockRef, Socket};

/// How often those that asked for nothing are cut off. Longer than a connection may be idle, than any request takes and than
/// its answer, which is small, may take on a line that is worth having.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How long a client may leave its answers unread.
const UNREAD: Duration = Duration::from_secs(30);
/// File descriptors that each connection has: one is actix-web's.
pub(crate) const DESCRIPTORS: usize = 2;

/// The open connections.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Vec<Weak<Connection>>>);

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// A whole head has come since it was last looked at.
    has_asked: AtomicBool,
}

impl Connections {
    /// Watches a connection from now on. For [`actix_web::HttpServer::on_connect`].
    pub(crate) fn watch(&self, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
        let socket = SockRef::from(stream);
        match socket.set_tcp_user_timeout(Some(UNREAD)).and_then(|()| socket.try_clone()) {
            Ok(socket) => {
                let connection = Arc::new(Connection { socket, has_asked: AtomicBool::new(true) });
                let mut open = self.open();
                // Those that have gone make room for new ones.
                if open.len() == open.capacity() {
                    open.retain(|connection| connection.strong_count() > 0);
                }
                open.push(Arc::downgrade(&connection));
                data.insert(connection);
            }
            Err(error) => log::debug!("a connection without a time limit: {error}"),
        }
    }

    /// Cuts off those on which no request has begun since the last time.
    pub fn cut_off_stuck(&self) {
        let mut stuck = Vec::new();
        self.open().retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let goes_on = connection.has_asked.swap(false, Ordering::Relaxed);
            if !goes_on {
                stuck.push(connection);
            }
            goes_on
        });
        // Nobody who connects waits for this. It may have gone this very moment.
        stuck.iter().for_each(|connection| drop(connection.socket.shutdown(Shutdown::Both)));
    }

    fn open(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request has begun on its connection.
pub(crate) fn note(req: &ServiceRequest) {
    if let Some(connection) = req.conn_data::<Arc<Connection>>() {
        connection.has_asked.store(true, Ordering::Relaxed);
    }
}
