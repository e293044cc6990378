//! Which shared libraries a shared library asks for: the DT_NEEDED entries of a 64-bit little-endian ELF file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
/// Larger tables than these are no library's.
const MAX_ENTRIES: usize = 1 << 16;
const MAX_NAME: usize = 256;

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// The names, in the order of the file; none where it is no such file.
pub fn needed(path: &Path) -> Option<Vec<String>> {
    let file = File::open(path).ok()?;
    let head = read(&file, 0, 64)?;
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (u64_at(&head, 32)?, u16_at(&head, 54)?, u16_at(&head, 56)?);
    let segments: Vec<Segment> = (0..u64::from(count)).map_while(|i| segment(&file, table, size, i)).collect();
    let dynamic = segments.iter().find(|s| s.kind == DYNAMIC)?;
    let bytes = read(&file, dynamic.offset, usize::try_from(dynamic.size).ok()?.min(16 * MAX_ENTRIES))?;
    let entries: Vec<(u64, u64)> =
        bytes.chunks_exact(16).filter_map(|e| Some((u64_at(e, 0)?, u64_at(e, 8)?))).collect();
    let strings = entries.iter().find(|e| e.0 == STRINGS)?.1;
    let inside = |s: &&Segment| s.kind == LOAD && strings >= s.address && strings - s.address < s.size;
    let load = segments.iter().find(inside)?;
    let strings = load.offset.checked_add(strings - load.address)?;
    entries.iter().filter(|e| e.0 == NEEDED).map(|e| name(&file, strings.checked_add(e.1)?)).collect()
}

fn segment(file: &File, table: u64, size: u16, index: u64) -> Option<Segment> {
    let bytes = read(file, table.checked_add(u64::from(size) * index)?, 56)?;
    let (kind, offset) = (u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?), u64_at(&bytes, 8)?);
    Some(Segment { kind, offset, address: u64_at(&bytes, 16)?, size: u64_at(&bytes, 32)? })
}

fn name(file: &File, offset: u64) -> Option<String> {
    let mut bytes = [0; MAX_NAME];
    let length = file.read_at(&mut bytes, offset).ok()?;
    let text = bytes.get(..length)?.split(|&b| b == 0).next()?;
    std::str::from_utf8(text).ok().map(str::to_string)
}

fn read(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
