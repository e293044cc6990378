//! A pass over the data that is killed or stopped goes on where it was, and gives the same bits.
#![cfg(unix)]

use super::{Home, PROGRAM, RESNET, assert_message, build, small_model, trained};
use onnx_unlearn::importance::{Profile, Run};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Batches of a pass over the small model's data: more than are done before a signal arrives.
const BATCHES: u16 = 20_000;

/// The pass as one goes on with it, and as one starts it to be stopped: with a checkpoint after every batch.
const PASS: &str = "importance m.onnx --data d.npy -o p --batch-size 1 --threads 1 --runtime tract";
const STOPPED: &str = "--checkpoint-every 0";

/// The small model and many samples, whose sums depend on the order in which they are added.
fn many() -> Home {
    let home = Home::small();
    let number = |i: u16, by: u16| f32::from(i * by % 101) / 7.0 + 0.1;
    let rows: Vec<_> = (0..BATCHES).map(|i| [number(i % 600, 37), number(i % 500, 53), number(i % 700, 71)]).collect();
    home.rows("d.npy", &rows);
    home
}

fn start(home: &Home, line: &str) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(line.split(' ')).current_dir(home.path("")).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Number of batches in the checkpoint, which is whole at any moment; 0 where there is none.
fn batches(home: &Home) -> usize {
    Run::read(&home.path("p.checkpoint")).unwrap().map_or(0, |(_, done)| done.batches)
}

/// Waits until a running pass has more than `before` batches behind it.
fn wait_for_progress(home: &Home, child: &mut Child, before: usize) {
    while batches(home) <= before {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was stopped");
        sleep(Duration::from_millis(1));
    }
}

/// Ends a pass and gives its exit code and standard error.
fn signal(mut child: Child, signal: i32) -> (Option<i32>, String) {
    // SAFETY: the child has not been waited for, so that the number is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), err)
}

fn without(home: &Home, names: &[&str]) -> Vec<std::path::PathBuf> {
    home.content().into_keys().filter(|path| names.iter().all(|name| *path != home.path(name))).collect()
}

#[test]
fn killed_at_twenty_moments_and_resumed() {
    let home = many();
    home.ok(&format!("{PASS} -q"));
    let whole = home.read("p");
    fs::remove_file(home.path("p")).unwrap();
    let files = without(&home, &[]);
    for moment in 0..20 {
        let before = batches(&home);
        let mut child = start(&home, &format!("{PASS} {STOPPED}"));
        // Some are killed before they have done anything.
        if moment % 5 != 4 {
            wait_for_progress(&home, &mut child, before);
        }
        sleep(Duration::from_millis(moment));
        assert_eq!(signal(child, libc::SIGKILL).0, None);
        assert!(batches(&home) >= before, "work was lost");
        assert_eq!(without(&home, &["p.checkpoint", "p.checkpoint.new"]), files);
    }
    let found = home.run(PASS);
    assert!(found.err.starts_with("going on from p.checkpoint: "), "{found:?}");
    assert!(home.read("p") == whole, "other bits than those of an unbroken run");
    assert_eq!(without(&home, &["p"]), files);
}

/// Near its end too, where the profile takes the place of an earlier one.
#[test]
fn killed_near_the_end() {
    let home = Home::new();
    home.write("m.onnx", fs::read(trained(RESNET)).unwrap());
    home.digits("d.npy", 4, 4);
    let line = "importance m.onnx --data d.npy -o p --batch-size 1 --threads 1";
    let begin = Instant::now();
    home.ok(&format!("{line} {STOPPED} -q"));
    let (time, whole) = (begin.elapsed(), home.read("p"));
    for (moment, earlier) in [(500, false), (850, true), (960, false), (1000, true)] {
        if !earlier {
            fs::remove_file(home.path("p")).unwrap();
        }
        let child = start(&home, &format!("{line} {STOPPED}"));
        sleep(time * moment / 1000);
        signal(child, libc::SIGKILL);
        batches(&home);
        match fs::read(home.path("p")) {
            Ok(bytes) => assert!(bytes == whole, "another profile than that of a whole run"),
            Err(_) => assert!(!earlier, "an earlier profile is gone"),
        }
        home.ok(&format!("{line} -q"));
        assert!(home.read("p") == whole, "killed at {moment}/1000");
        assert!(!home.path("p.checkpoint").exists());
    }
}

#[test]
fn signals_stop_it_in_an_orderly_way() {
    let home = many();
    home.ok(&format!("{PASS} -q"));
    let whole = home.read("p");
    fs::remove_file(home.path("p")).unwrap();
    let files = without(&home, &[]);
    let mut before = 0;
    for (number, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let mut child = start(&home, &format!("{PASS} {STOPPED} -q"));
        wait_for_progress(&home, &mut child, before);
        let (found, err) = signal(child, number);
        assert_eq!(found, Some(code), "{err}");
        assert_message(&err, &["p.checkpoint", "the same command goes on"], PASS);
        assert_eq!(without(&home, &["p.checkpoint"]), files);
        before = batches(&home);
    }
    // How often checkpoints are made, and the number of threads, may change.
    let found = home.run(&PASS.replace("--threads 1", "--threads 2 --checkpoint-every 7"));
    assert_eq!(found.err, format!("going on from p.checkpoint: {before} samples are done\n"));
    assert!(home.read("p") == whole, "other bits than those of an unbroken run");
    assert_eq!(without(&home, &["p"]), files);
}

/// Waits until the program minds SIGTERM: before, one ends it as it ends any program.
#[cfg(target_os = "linux")]
fn wait_for_handler(child: &Child) {
    let minded = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (libc::SIGTERM - 1) & 1 == 1
    };
    while !minded() {
        sleep(Duration::from_millis(1));
    }
}

/// Stopped by a signal alone, before any interval is over: nothing is lost, and where nothing was done yet,
/// nothing is left.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_makes_a_checkpoint() {
    let home = many();
    let files = without(&home, &[]);
    let line = format!("{PASS} --checkpoint-every 3600");
    let mut moment = Duration::from_millis(1);
    while batches(&home) == 0 {
        let child = start(&home, &line);
        wait_for_handler(&child);
        sleep(moment);
        let (code, err) = signal(child, libc::SIGTERM);
        assert_eq!(code, Some(143), "{err}");
        let said = if batches(&home) == 0 { "nothing was done yet" } else { "p.checkpoint holds what is done" };
        assert_message(&err, &["stopped", said], &line);
        assert_eq!(without(&home, &["p.checkpoint"]), files);
        moment *= 2;
    }
    home.ok(&format!("{PASS} -q"));
    assert_eq!(without(&home, &["p"]), files);
}

/// Shards, batches of the batch reduction and a batch size chosen by the program go on alike.
#[test]
fn every_kind_of_pass_goes_on() {
    let home = many();
    let base = "importance m.onnx --data d.npy -o p --threads 1 --runtime tract";
    for options in ["--shard 2/3 --batch-size 1", "--reduction batch --batch-size 2", "--objective prob"] {
        home.ok(&format!("{base} {options} -q"));
        let whole = home.read("p");
        fs::remove_file(home.path("p")).unwrap();
        let mut child = start(&home, &format!("{base} {options} {STOPPED}"));
        wait_for_progress(&home, &mut child, 0);
        signal(child, libc::SIGKILL);
        let found = home.run(&format!("{base} {options}"));
        assert!(found.err.starts_with("going on from p.checkpoint: "), "{options}: {found:?}");
        assert!(home.read("p") == whole, "{options}");
    }
}

/// A checkpoint of `PASS`, and a line for each run that it is not of, with what differs.
#[test]
fn checkpoints_of_other_runs_are_refused() {
    let home = many();
    let mut child = start(&home, &format!("{PASS} {STOPPED}"));
    wait_for_progress(&home, &mut child, 0);
    signal(child, libc::SIGKILL);
    let mut other = small_model();
    other.producer_name = "another".into();
    home.write("other.onnx", build::bytes(&other));
    let cases = [
        (PASS.replace("m.onnx", "other.onnx"), "model"),
        (PASS.replace("d.npy", "r.npy"), "data set"),
        (format!("{PASS} --shard 1/2"), "shard"),
        (format!("{PASS} --objective prob"), "objective"),
        (format!("{PASS} --reduction batch"), "reduction"),
        (format!("{PASS} --include bias"), "choice of weights"),
        (PASS.replace("--batch-size 1", "--batch-size 2"), "batch size"),
        (PASS.replace("tract", "onnxruntime"), "runtime"),
    ];
    for (line, what) in cases {
        home.fails(&line, 2, &["p.checkpoint", "another run", &format!("its {what}"), "delete it", "another output"]);
    }
    // Another output is another run.
    home.ok(&PASS.replace("d.npy -o p", "r.npy -o q"));
    assert!(home.path("p.checkpoint").exists());
    for (bytes, part) in [(home.read("p.checkpoint")[..99].to_vec(), "safetensors"), (home.read("q"), "checkpoint.v1")]
    {
        home.write("p.checkpoint", bytes);
        home.fails(PASS, 3, &["p.checkpoint", part, "delete"]);
    }
}

/// What was left by a program killed in the middle of a checkpoint is no hindrance.
#[test]
fn the_place_of_the_checkpoint_is_minded() {
    let home = Home::small();
    let line = "importance m.onnx --data r.npy -o p --batch-size 1 --checkpoint-every 0 -q";
    home.write("p.checkpoint.new", "half");
    home.ok(line);
    assert!(!home.path("p.checkpoint.new").exists() && !home.path("p.checkpoint").exists());
    Profile::read(&home.path("p")).unwrap();
    for name in ["p.checkpoint", "p.checkpoint.new"] {
        fs::create_dir(home.path(name)).unwrap();
        home.fails(line, 6, &[name, "is a folder"]);
        fs::remove_dir(home.path(name)).unwrap();
        fs::copy(home.path("m.onnx"), home.path(name)).unwrap();
        home.fails(&line.replace("m.onnx", name), 2, &[name, "inputs"]);
        fs::remove_file(home.path(name)).unwrap();
    }
    assert!(Path::new(&home.path("p")).exists());
}
