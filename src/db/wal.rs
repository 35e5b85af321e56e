//! The write-ahead log of SQLite, as far as a start must read it without SQLite.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Page sizes that SQLite supports, in bytes.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// Returns whether `file` contains a page exactly as `log` contains it: then a checkpoint, complete or interrupted, has
/// moved pages of this log into this file.
pub(super) fn was_checkpointed(log: &File, file: &File) -> io::Result<bool> {
    let mut log = BufReader::new(log);
    let mut header = [0; 32];
    log.read_exact(&mut header)?;
    let (page_size, salts) = (number(&header, 8), &header[16..24]);
    if !PAGE_SIZES.contains(&page_size) {
        return Ok(false);
    }
    let mut frame = [0; 24];
    let mut page = vec![0; page_size as usize];
    let mut present = page.clone();
    // Frames with other salts are left from an earlier log.
    while log.read_exact(&mut frame).is_ok() && frame[8..16] == *salts && log.read_exact(&mut page).is_ok() {
        let offset = u64::from(number(&frame, 0).saturating_sub(1)) * u64::from(page_size);
        if file.read_exact_at(&mut present, offset).is_ok() && present == page {
            return Ok(true);
        }
    }
    Ok(false)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
