//! Killed at any moment, the command leaves a whole model or none.
#![cfg(unix)]

use super::{Home, PROGRAM, RESNET, trained};
use onnx_unlearn::model::{Limits, Model};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Moments, in thousandths of the time that a run takes.
const MOMENTS: [u32; 10] = [5, 150, 350, 550, 700, 800, 880, 940, 980, 1010];

#[test]
fn killed_at_ten_moments() {
    let (home, trash) = (Home::new(), tempfile::tempdir().unwrap());
    home.digits("f.npy", 12, 0);
    home.digits("r.npy", 0, 40);
    home.write("m.onnx", std::fs::read(trained(RESNET)).unwrap());
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.args("forget m.onnx --forget f.npy --retain r.npy --alpha 2 --threads 1 -o new.onnx".split(' '));
        command.current_dir(home.path("")).env("TMPDIR", trash.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let begin = Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = begin.elapsed();
    let expected = home.read("new.onnx");
    std::fs::remove_file(home.path("new.onnx")).unwrap();
    let before = home.content();
    for moment in MOMENTS {
        let mut child = start();
        std::thread::sleep((whole * moment / 1000).max(Duration::from_millis(10)));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        let mut after = home.content();
        if let Some(bytes) = after.remove(&home.path("new.onnx")) {
            Model::read(&home.path("new.onnx"), &Limits::default()).unwrap();
            assert!(bytes == expected, "another model than that of a whole run");
            std::fs::remove_file(home.path("new.onnx")).unwrap();
        }
        super::assert_same(&before, &after, &format!("killed at {moment}/1000"));
    }
}
