//! Processes: their core, start, stop, memory and processor time. Owns the environment of the measured server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use tempfile::TempDir;

use crate::Result;

/// The time limit until a server is ready.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The settings of a measured server that are not the defaults.
const MEASURED: &[(&str, &str)] = &[
    ("WORKERS", "1"),
    ("LIMIT_FREE", "off"),
    ("LIMIT_PREMIUM", "off"),
    ("LIMIT_CHANGES", "off"),
    ("LIMIT_LOG", "off"),
    ("DOMAINS_PER_USER", "off"),
    ("POSTS_PER_USER", "off"),
    ("METRICS_ADDR", "off"),
    ("TOKEN_TTL", "1h"),
    ("BCRYPT_COST", "4"),
    ("RUST_LOG", "warn"),
];

/// The core of the servers. The load generator runs on another.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: Option<CoreId>,
    pub(crate) generator: Option<CoreId>,
}

impl Cores {
    /// Assigns the first core to the servers and the last to this process. These two are the least likely to be threads
    /// of the same core.
    pub(crate) fn split() -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        match (cores.first(), cores.last()) {
            (Some(&first), Some(&last)) if cores.len() > 1 => {
                let pinned = core_affinity::set_for_current(last);
                Self { server: Some(first), generator: pinned.then_some(last) }
            }
            _ => Self { server: None, generator: None },
        }
    }

    /// All cores for every process.
    pub(crate) fn all() -> Self {
        Self { server: None, generator: None }
    }

    /// Gatebird's command line. A child inherits the core of its parent; `taskset` releases it.
    fn command(self) -> Command {
        let binary = env!("CARGO_BIN_EXE_gatebird");
        match self.server {
            Some(_) => Command::new(binary),
            None => {
                let last = core_affinity::get_core_ids().unwrap_or_default().len().max(2) - 1;
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &format!("0-{last}"), binary]);
                command
            }
        }
    }

    /// Starts a process on the servers' core. A child inherits the affinity of the thread that
    /// starts it, so a thread pins itself, starts it and ends.
    fn spawn(self, mut command: Command) -> Result<Process> {
        let starter = std::thread::spawn(move || {
            if let Some(core) = self.server
                && !core_affinity::set_for_current(core)
            {
                return Err(std::io::Error::other("cannot pin the server to its core"));
            }
            command.spawn()
        });
        Ok(Process(starter.join().map_err(|_| "the starting thread panicked")??))
    }
}

/// A child process that never outlives its handle.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that serves HTTP on its own port.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts Gatebird for a measurement on the data in `directory`. Also returns the time from the start of the
    /// process to the first 200 of `GET /readyz`.
    pub(crate) fn start(directory: &Path, settings: &[(&str, &str)], cores: Cores) -> Result<(Self, Duration)> {
        Self::start_with(directory, &[MEASURED, settings].concat(), cores)
    }

    /// As [`Server::start`], with these settings only.
    pub(crate) fn start_with(directory: &Path, settings: &[(&str, &str)], cores: Cores) -> Result<(Self, Duration)> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = directory.join("server.log");
        let output = std::fs::File::create(&log)?;
        let mut command = cores.command();
        command
            .arg("serve")
            // Neither the caller's environment nor a `.env` of the repository may change the figures.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir(directory)
            .env("HOST", "127.0.0.1")
            .env("PORT", address.port().to_string())
            .env("DATABASE_URL", format!("sqlite://{}", database(directory).display()))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let started = Instant::now();
        let mut server = Self { process: cores.spawn(command)?, address };
        loop {
            if server.ready() {
                return Ok((server, started.elapsed()));
            }
            let ended = server.process.0.try_wait()?;
            if ended.is_some() || started.elapsed() > TIME_LIMIT {
                let state = ended.map_or("still not ready".to_owned(), |status| status.to_string());
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the server did not start ({state}):\n{said}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts this executable as a server that prints its address once it listens. It stops when its standard input
    /// ends.
    pub(crate) fn start_self(arguments: &[String], cores: Cores) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = cores.spawn(command)?;
        let mut line = String::new();
        let output = process.0.stdout.take().ok_or("no output of the ceiling")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let address = line.trim().parse().map_err(|_| "the ceiling did not start")?;
        Ok(Self { process, address })
    }

    /// Sends `GET /readyz` once.
    fn ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status == *b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }

    /// Stops the process like an operator, so that a restart finds a closed database.
    pub(crate) fn stop(mut self) -> Result<()> {
        // Dropping the handle kills a process that still runs.
        self.terminate()
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let id = self.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().is_ok_and(|status| status.success());
        let patience = Instant::now() + TIME_LIMIT;
        while asked && Instant::now() < patience && self.process.0.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The amount of memory with that name in `/proc`, in bytes.
    pub(crate) fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Processor time of all threads of the server.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id()));
        let threads = threads.into_iter().flatten().flatten();
        threads.fold(ProcessorTime::default(), |sum, thread| {
            let time = ProcessorTime::read(&thread.path().join("schedstat"));
            ProcessorTime { ran: sum.ran + time.ran, waited: sum.waited + time.waited }
        })
    }
}

/// The time for which threads ran, and for which they were runnable but waited for a core.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProcessorTime {
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
}

impl ProcessorTime {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self::read(Path::new("/proc/thread-self/schedstat"))
    }

    /// Zero if the kernel does not report it: this is a hint for the reader, not a result.
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut fields = text.split_whitespace().map(|field| Duration::from_nanos(field.parse().unwrap_or(0)));
        Self { ran: fields.next().unwrap_or_default(), waited: fields.next().unwrap_or_default() }
    }
}

/// Runs `gatebird import domains` on a new database.
pub(crate) fn import(directory: &Path, list: &Path, secrets: &Path) -> Result<()> {
    let mut command = Cores::all().command();
    command.args(["import", "domains", "--make-users", "--secrets"]).args([secrets, list]);
    command.env_clear().current_dir(directory).stdout(Stdio::null());
    command.env("DATABASE_URL", format!("sqlite://{}", database(directory).display()));
    match command.status()?.success() {
        true => Ok(()),
        false => Err("the import failed".into()),
    }
}

/// The server's database file in its directory.
pub(crate) fn database(directory: &Path) -> PathBuf {
    directory.join("gatebird.db")
}

/// A directory that is deleted with its handle. It is in memory if possible, because the set-up writes 20,000 rows and
/// no measurement waits for a disk.
pub(crate) fn directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("gatebird-bench-");
    Ok(builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())?)
}
