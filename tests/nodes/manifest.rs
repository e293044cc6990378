//! The list of cases: a line for each, its name, its operator and its verdict, in the order of names.

use crate::{JUDGE, judge, suite};
use libtest_mimic::Failed;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use wait_timeout::ChildExt;

#[derive(Clone)]
pub struct Line {
    pub name: String,
    pub op: String,
    pub verdict: String,
}

pub fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_string);
        Some(Line { name: words.next()?, op: words.next()?, verdict: words.next()? })
    };
    text.lines().filter_map(line).collect()
}

/// Every listed case exists with its operator, the list is in order, and no verdict is that a number is wrong.
pub fn check(lines: &[Line], data: &Path) -> Result<(), Failed> {
    if let Some(line) = lines.iter().find(|line| line.op != suite::operator(data, &line.name)) {
        return Err(format!("there is no case '{}' of {}", line.name, line.op).into());
    }
    if let Some(pair) = lines.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        return Err(format!("'{}' is out of order", pair[1].name).into());
    }
    match lines.iter().find(|line| line.verdict.starts_with(judge::WRONG)) {
        Some(line) => Err(format!("{} {}", line.name, line.verdict).into()),
        None => Ok(()),
    }
}

/// Judges every case in a process of its own, which may crash, and writes the list.
pub fn write(path: &Path, data: &Path, names: &[String]) {
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let line = format!("{name} {} {}", suite::operator(data, name), apart(name));
            lines.lock().expect("no thread panics").push(line);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| _ = scope.spawn(work)));
    let mut lines = lines.into_inner().expect("no thread panics");
    lines.sort();
    fs::write(path, lines.join("\n") + "\n").expect("the manifest can be written");
}

fn apart(name: &str) -> String {
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(program)
        .env(JUDGE, name)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program can be started");
    let status = child.wait_timeout(Duration::from_secs(60)).expect("a child can be waited for");
    if !status.is_some_and(|status| status.success()) {
        let _ = child.kill();
        return judge::CRASH.into();
    }
    let output = child.wait_with_output().expect("what the child wrote");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
