//! The stream between a client and actix-http.
//!
//! actix-http reads up to 128 KiB ahead and parses all requests that it finds. Therefore this stream hands out one
//! request at a time. It hands out a head once the head is complete, well-formed and at most 16 KiB, and the previous
//! response has been written. It hands out a body in parts, each once the handler has asked for it or has answered
//! without it. Other bytes stay in the kernel, whose flow control stops the client.
//!
//! In place of a refused head, the stream hands out a request of its own with the reason, so that its response is made,
//! counted and logged like all others.

use std::cell::Cell;
use std::io;
use std::mem::{MaybeUninit, replace, take};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::{BoxedPayloadStream, Payload, Request};
use actix_web::error::PayloadError;
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadline::{Deadline, Wait};
use super::framing::{self, Body, Head, Refusal};
use super::turns::Turn;
use crate::config::Timeouts;
use crate::shares::Permit;

/// Bytes that are read from the kernel, and handed out of a body, at a time.
const READ_SIZE: usize = 8 * 1024;
/// Bytes of a refused request that are read before other connections get a turn.
const DISCARD_SIZE: usize = 64 * 1024;
/// Replaces a refused head. Its missing body makes actix-http close the connection, but only after reading what the
/// client still sends. Otherwise, the client might not see the response.
const REFUSED: &[u8] = b"REFUSED * HTTP/1.1\r\nHost: -\r\nContent-Length: 1\r\n";

/// State that a connection shares with its current request.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// A request was handed out that actix-http has not begun to serve.
    is_queued: Cell<bool>,
    /// The response to the current request has been made.
    is_ready: Cell<bool>,
    /// The whole body of the current request was handed out.
    is_complete: Cell<bool>,
    /// The handler waits for more of the body.
    wants_more: Cell<bool>,
    refusal: Cell<Option<Refusal>>,
}

impl Exchange {
    /// Must be called when actix-http begins to serve a request. It makes the request ask for its body in parts.
    pub(crate) fn begin(request: &mut Request) -> Option<Rc<Exchange>> {
        let exchange = Rc::clone(request.conn_data::<Rc<Exchange>>()?);
        exchange.is_queued.set(false);
        exchange.is_ready.set(false);
        if !exchange.is_complete.get() {
            let body = BodyOnDemand { exchange: Rc::clone(&exchange), payload: request.take_payload() };
            let payload: BoxedPayloadStream = Box::pin(body);
            *request.payload() = payload.into();
        }
        Some(exchange)
    }

    /// Must be called when the response to the current request has been made, before actix-http writes it.
    pub(crate) fn end(&self) {
        self.is_ready.set(true);
    }

    /// Why the current request must be refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }
}

/// A body that asks its connection for more when it is empty.
struct BodyOnDemand {
    exchange: Rc<Exchange>,
    payload: Payload,
}

impl Stream for BodyOnDemand {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.payload).poll_next(context);
        if next.is_pending() && !self.exchange.wants_more.replace(true) {
            // This makes actix-http read from the connection again.
            context.waker().wake_by_ref();
        }
        next
    }
}

/// What the next byte from the client belongs to.
#[derive(Debug)]
enum Position {
    /// A head.
    Head,
    /// The rest of a body.
    Body(Body),
    /// A refused request, whose bytes are discarded.
    Refused,
    /// Nothing: the body was malformed, or a deadline has passed. actix-http gets the end of the stream.
    End,
}

/// A TCP connection with bounded memory and deadlines, whatever the client sends.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    exchange: Rc<Exchange>,
    deadline: Deadline,
    position: Position,
    /// Bytes that were read. Those before `handed_out` were handed out; those before `admitted` may be handed out.
    bytes: Vec<u8>,
    handed_out: usize,
    admitted: usize,
    /// The size of an incomplete head when it was last parsed.
    head_size: usize,
    /// Bytes of a refused request that were read since other connections had a turn.
    discarded: usize,
    /// The current request was answered, or no request has been handed out yet.
    is_answered: bool,
    /// A response, or an interim one such as `100 Continue`, was written since the last flush.
    has_written: bool,
    /// Other connections must get a turn before more is handed out.
    must_yield: bool,
    /// There may be bytes to read that will not wake the task.
    may_read: bool,
    /// The shares of its network; `None` for a connection of a trusted proxy.
    share: Option<(Permit, Turn)>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, timeouts: Timeouts, share: Option<(Permit, Turn)>) -> Connection {
        Connection {
            stream,
            exchange: Rc::default(),
            deadline: Deadline::new(timeouts, Wait::Head),
            position: Position::Head,
            bytes: Vec::new(),
            handed_out: 0,
            admitted: 0,
            head_size: 0,
            discarded: 0,
            is_answered: true,
            has_written: false,
            must_yield: false,
            may_read: false,
            share,
        }
    }

    /// The state that its requests share with it.
    pub(crate) fn exchange(&self) -> Rc<Exchange> {
        Rc::clone(&self.exchange)
    }

    /// Admits read bytes, and reads more, until some are admitted or the stream ends.
    fn poll_admit(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_turn = self.share.is_none();
        while self.handed_out == self.admitted {
            if take(&mut self.must_yield) {
                self.discarded = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_open = match self.position {
                Position::Body(_) => self.is_answered || self.exchange.wants_more.get(),
                Position::Head | Position::Refused => self.is_answered,
                Position::End => return Poll::Ready(Ok(())),
            };
            if !is_open {
                self.may_read |= self.stream.poll_read_ready(context)?.is_ready();
                return Poll::Pending;
            }
            if !has_turn && let Some((_, turn)) = &self.share {
                if !self.has_unread() {
                    ready!(self.stream.poll_read_ready(context))?;
                }
                if !turn.take(context) {
                    return Poll::Pending;
                }
                has_turn = true;
            }
            if self.has_unread() && self.admit() {
                continue;
            }
            if ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Position::Refused = self.position {
                self.discarded += self.bytes.len();
                self.must_yield = self.discarded >= DISCARD_SIZE;
                self.forget();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Parses unread bytes. Returns whether the state has changed.
    fn admit(&mut self) -> bool {
        let unread = &self.bytes[self.handed_out..];
        match &mut self.position {
            Position::Head => match framing::head(unread, replace(&mut self.head_size, unread.len())) {
                Head::Whole { size, body, offers_upgrade } => {
                    if offers_upgrade {
                        framing::remove_upgrade(&mut self.bytes[self.handed_out..][..size]);
                    }
                    self.begin(size, body);
                }
                Head::Refused(refusal) => self.refuse(refusal),
                Head::Partial => {
                    if self.deadline.wait() != Wait::Head {
                        self.deadline.begin(Wait::Head);
                    }
                    return false;
                }
            },
            Position::Body(body) => {
                let part = &unread[..unread.len().min(READ_SIZE)];
                match body.follow(part) {
                    Some(size) => self.admitted += size,
                    None => self.position = Position::End,
                }
                self.exchange.wants_more.set(false);
                // Otherwise actix-http would collect 128 KiB before it processes any of it.
                self.must_yield = self.is_answered;
                self.after_body();
            }
            Position::Refused | Position::End => return false,
        }
        true
    }

    /// Admits a head and the part of its body that was read.
    fn begin(&mut self, head: usize, mut body: Body) {
        self.head_size = 0;
        self.is_answered = false;
        self.exchange.is_queued.set(true);
        self.exchange.wants_more.set(false);
        let unread = &self.bytes[self.handed_out..];
        self.admitted += head;
        self.position = match body.follow(&unread[head..]) {
            Some(size) => {
                self.admitted += size;
                Position::Body(body)
            }
            None => Position::End,
        };
        self.exchange.is_complete.set(false);
        self.after_body();
    }

    /// Moves to the next head if the body is complete, and sets the deadline.
    fn after_body(&mut self) {
        if let Position::Body(body) = &self.position
            && body.is_complete()
        {
            self.position = Position::Head;
            self.exchange.is_complete.set(true);
        }
        let wait = self.next_wait();
        // One deadline applies to the whole body, not to each part.
        if wait != Wait::Body || self.deadline.wait() != Wait::Body {
            self.deadline.begin(wait);
        }
    }

    /// Replaces the received bytes by a request of the stream's own, which is the last one.
    fn refuse(&mut self, refusal: Refusal) {
        let lines = framing::lines_for_response(&self.bytes[self.handed_out..]);
        let request = [REFUSED, &lines.concat(), b"\r\n"].concat();
        self.forget();
        self.admitted = request.len();
        self.bytes = request;
        self.exchange.refusal.set(Some(refusal));
        self.exchange.is_queued.set(true);
        self.exchange.is_complete.set(true);
        self.is_answered = false;
        self.position = Position::Refused;
        self.deadline.begin(Wait::Nothing);
    }

    /// What the connection waits for while there is nothing to write.
    fn next_wait(&self) -> Wait {
        match self.position {
            Position::Head if !self.is_answered => Wait::Nothing,
            Position::Head if self.has_unread() => Wait::Head,
            Position::Head => Wait::Idle,
            Position::Body(_) => Wait::Body,
            Position::Refused | Position::End => Wait::Nothing,
        }
    }

    /// Whether some bytes were read and not admitted.
    fn has_unread(&self) -> bool {
        self.admitted < self.bytes.len()
    }

    /// Reads more bytes from the kernel.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut part = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        self.may_read = false;
        self.bytes.drain(..self.handed_out);
        (self.handed_out, self.admitted) = (0, 0);
        self.bytes.extend_from_slice(part.filled());
        Poll::Ready(Ok(part.filled().len()))
    }

    /// Discards all bytes, and frees the memory of large requests.
    fn forget(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(READ_SIZE);
        (self.handed_out, self.admitted) = (0, 0);
    }

    /// Handles a passed deadline. A partial head gets a response; other waits end the connection.
    fn expire(&mut self) -> io::Result<()> {
        match self.deadline.wait() {
            Wait::Head if self.has_unread() => self.refuse(Refusal::HeadTooSlow),
            Wait::Head | Wait::Idle => self.position = Position::End,
            Wait::Body | Wait::Written | Wait::Nothing => return Err(io::ErrorKind::TimedOut.into()),
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.poll_admit(context)?.is_pending() {
            if !this.deadline.is_over(context) {
                return Poll::Pending;
            }
            this.expire()?;
        }
        let admitted = &this.bytes[this.handed_out..this.admitted];
        let part = &admitted[..admitted.len().min(buffer.remaining())];
        buffer.put_slice(part);
        this.handed_out += part.len();
        if this.handed_out == this.bytes.len() {
            this.forget();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if written.is_ready() {
            this.has_written = true;
            return written;
        }
        if this.deadline.wait() != Wait::Written {
            this.deadline.begin(Wait::Written);
        }
        if this.deadline.is_over(context) { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending }
    }

    /// actix-http calls this when it has written everything.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if take(&mut this.has_written) && this.exchange.is_ready.get() && !this.exchange.is_queued.get() {
            this.is_answered = true;
            this.deadline.begin(this.next_wait());
            if this.may_read || this.has_unread() {
                context.waker().wake_by_ref();
            }
        } else if this.deadline.wait() == Wait::Written {
            this.deadline.begin(this.next_wait());
        }
        // This registers the timer if necessary.
        this.deadline.is_over(context);
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
