//! Free loopback ports that stay ours.
//!
//! A port that the kernel hands out for port 0 can become the source port of anybody's outgoing connection while its
//! server restarts. These lie below the kernel's range for that (32768 and up unless configured), are held by a file
//! lock against other test processes of this machine, and are tried before they are handed out.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use rustix::process::getuid;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 which no other test gets while this lives.
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one. Two processes begin their search at different places.
    pub(crate) fn reserve() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = u16::try_from(process::id().wrapping_mul(997) % u32::from(COUNT)).unwrap_or(0);
        let folder = std::env::temp_dir().join(format!("sekuire-test-ports-{}", getuid().as_raw()));
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("make {}: {e}", folder.display()));
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start % COUNT + step % COUNT) % COUNT;
            let path = folder.join(number.to_string());
            let Ok(lock) = File::options().create(true).append(true).open(&path) else {
                continue;
            };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Port { number, _lock: lock };
            }
        }
        panic!("none of the ports {FIRST} to {} is free", FIRST + COUNT - 1);
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
