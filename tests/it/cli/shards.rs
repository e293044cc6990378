//! Parts of a pass, by any number of workers, added up.

use super::{Home, RESNET, build, small_model, trained};
use onnx_unlearn::importance::Profile;
use std::thread;

const SHARDS: usize = 8;

/// The small model and more samples than eight batches of the size that is chosen for it.
fn many() -> Home {
    let home = Home::small();
    let number = |i: u16, by: u16| f32::from(i * by % 101) / 7.0 + 0.1;
    let rows: Vec<_> = (0..300).map(|i| [number(i, 37), number(i, 53), number(i, 71)]).collect();
    home.rows("d.npy", &rows);
    home
}

fn profile(home: &Home, name: &str) -> Profile {
    Profile::read(&home.path(name)).unwrap().0
}

/// Computes all shards with so many processes at a time, into files with this prefix.
fn work(home: &Home, workers: usize, line: &str, prefix: &str) {
    thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for shard in (1..=SHARDS).filter(|shard| shard % workers == worker) {
                    home.ok(&format!("{line} --shard {shard}/{SHARDS} -o {prefix}{shard} -q"));
                }
            });
        }
    });
}

/// One, two and four workers, and profiles named in any order and at any time, give the same bytes.
fn same_from_any_workers(home: &Home, line: &str) {
    let whole = {
        home.ok(&format!("{line} -o whole -q"));
        profile(home, "whole")
    };
    let orders: [[usize; SHARDS]; 3] = [[1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1], [3, 8, 1, 6, 2, 7, 5, 4]];
    for (workers, order) in [1, 2, 4].into_iter().zip(orders) {
        work(home, workers, line, &format!("w{workers}-"));
        let names: Vec<_> = order.map(|shard| format!("w{workers}-{shard}")).into();
        home.ok(&format!("merge {} -o {workers}.merged -q", names.join(" ")));
    }
    let merged = home.read("1.merged");
    for workers in [2, 4] {
        assert!(home.read(&format!("{workers}.merged")) == merged, "{line}: {workers} workers");
    }
    // Some first, the others later.
    home.ok("merge w4-3 w4-1 w4-2 -o some -q");
    assert_eq!(profile(home, "some").origin.shard.to_string(), "1-3/8");
    home.ok("merge w4-7 w4-4 some w4-8 w4-5 w4-6 -o later.merged -q");
    assert!(home.read("later.merged") == merged, "{line}: in two steps");

    let merged = profile(home, "1.merged");
    assert_eq!((&merged.origin, merged.sums.count), (&whole.origin, whole.sums.count));
    for (name, sum) in &whole.sums.weights {
        for (a, b) in sum.iter().zip(&merged.sums.weights[name]) {
            assert!((a - b).abs() <= 1e-9 * a.abs(), "{line}: {name}: {a} {b}");
        }
    }
}

#[test]
fn any_number_of_workers() {
    let home = many();
    // The batch size is chosen by the program, and the same for all.
    same_from_any_workers(&home, "importance m.onnx --data d.npy --threads 1 --runtime tract");
    same_from_any_workers(&home, "importance m.onnx --data d.npy --threads 1 --reduction batch --batch-size 7");
}

#[test]
fn any_number_of_workers_on_a_trained_model() {
    let home = Home::new();
    home.digits("d.npy", 2, 14);
    let line = format!("importance {} --data d.npy --threads 1 --batch-size 2", trained(RESNET));
    same_from_any_workers(&home, &line);
}

/// A merged profile does for `forget` and `dampen` what one pass over all data does; retained data is not needed.
#[test]
fn merged_profiles_are_used_like_others() {
    let home = Home::small();
    let line = "importance m.onnx --batch-size 2 -q";
    home.ok(&format!("{line} --data f.npy -o f.profile"));
    for shard in 1..=3 {
        home.ok(&format!("{line} --data r.npy -o r{shard} --shard {shard}/3"));
    }
    home.ok("merge r2 r1 r3 -o r.profile -q");
    // The data sets in any order, at once or one after the other.
    home.ok("merge r.profile f.profile -o d.profile -q");
    home.ok("merge f.profile r3 r2 r1 -o d2.profile -q");
    assert!(home.read("d.profile") == home.read("d2.profile"));
    let all = profile(&home, "d.profile");
    assert_eq!(all.sums.count, 7);

    let forget = "forget m.onnx --forget f.npy --alpha 1.5 --batch-size 2 --min-retained-agreement 0 -q";
    home.ok(&format!("{forget} --retain r.npy -o a.onnx"));
    std::fs::remove_file(home.path("r.npy")).unwrap();
    home.ok(&format!("{forget} --profile d.profile -o b.onnx"));
    home.ok("dampen m.onnx --forget-profile f.profile --profile d.profile --alpha 1.5 -o c.onnx -q");
    assert!(home.read("a.onnx") == home.read("b.onnx") && home.read("b.onnx") == home.read("c.onnx"));
}

#[test]
fn what_is_not_whole_is_not_used() {
    let home = Home::small();
    let line = "importance m.onnx --batch-size 1 -q --data r.npy";
    home.ok("importance m.onnx --data f.npy -o f.profile -q");
    for shard in [1, 2, 4] {
        home.ok(&format!("{line} -o r{shard} --shard {shard}/4"));
    }
    let found = home.run("merge r2 r1 -o r12");
    assert_eq!((found.code, found.out.contains("shard 1-2/4 of the data")), (0, true), "{found:?}");
    assert!(found.err.contains("warning: r12 is not whole: shards 3-4 of 4 are missing"), "{found:?}");
    let parts = ["not whole", "merge"];
    for (profile, missing) in [("r12", "shards 3-4 of 4"), ("r2", "shards 1, 3-4 of 4")] {
        let forget = format!("forget m.onnx --forget f.npy --profile {profile} --alpha 1.5 -o out.onnx");
        let dampen = "dampen m.onnx --alpha 1.5 -o out.onnx";
        for line in [
            forget,
            format!("{dampen} --forget-profile f.profile --profile {profile}"),
            format!("{dampen} --forget-profile {profile} --profile f.profile"),
            format!("sweep m.onnx --forget f.npy --profile {profile} -o out"),
        ] {
            home.fails(&line, 3, &[profile, missing, parts[0], parts[1]]);
        }
    }
}

#[test]
fn what_does_not_add_up_is_refused() {
    let home = Home::small();
    let mut other = small_model();
    other.producer_name = "another".into();
    home.write("other.onnx", build::bytes(&other));
    std::fs::copy(home.path("r.npy"), home.path("copy.npy")).unwrap();
    let make = |options: &str, name: &str| home.ok(&format!("importance {options} -o {name} -q"));
    for shard in [1, 2, 4] {
        make(&format!("m.onnx --data r.npy --batch-size 1 --shard {shard}/4"), &format!("r{shard}"));
    }
    make("m.onnx --data r.npy --batch-size 1 --shard 3/3", "third");
    make("m.onnx --data r.npy --batch-size 2 --shard 2/2", "pair2");
    make("m.onnx --data r.npy --batch-size 1 --shard 1/2", "pair1");
    make("m.onnx --data copy.npy", "copy");
    make("m.onnx --data r.npy", "r");
    make("m.onnx --data f.npy", "f");
    make("other.onnx --data f.npy", "other");
    make("m.onnx --data f.npy --objective prob", "prob");
    make("m.onnx --data f.npy --reduction batch --batch-size 1", "batch1");
    make("m.onnx --data r.npy --reduction batch --batch-size 2", "batch2");
    make("m.onnx --data f.npy --include bias", "bias");
    home.write("text", "no profile");
    let cases: [(&str, i32, &[&str]); 16] = [
        ("r1 r2 r2", 3, &["r2", "shard 2/4", "already"]),
        ("r1 r4", 3, &["shards 2-3 of 4 are missing", "--shard"]),
        ("r2 r4", 3, &["shards 1, 3 of 4 are missing"]),
        ("f r1 r2", 3, &["shards 3-4 of 4 are missing"]),
        ("r1 third", 3, &["third", "the number of shards is 3, but 4 in r1"]),
        ("pair1 pair2", 3, &["pair2", "the batch size is 2, but 1 in pair1"]),
        ("r copy", 3, &["copy", "same data", "r;"]),
        ("r1 r", 3, &["number of shards"]),
        ("r other", 3, &["other", "model's SHA-256"]),
        ("r prob", 3, &["prob", "objective"]),
        ("r batch1", 3, &["batch1", "reduction"]),
        ("batch1 batch2", 3, &["batch2", "batch size"]),
        ("r bias", 3, &["list of weights"]),
        ("r text", 3, &["text", "safetensors"]),
        ("r none", 6, &["none", "No such file"]),
        ("r m.onnx", 3, &["m.onnx", "safetensors"]),
    ];
    for (profiles, code, parts) in cases {
        home.fails(&format!("merge {profiles} -o out"), code, parts);
    }
    home.fails("merge r f -o f", 2, &["f", "inputs"]);
    home.fails("merge r f -o none/out", 6, &["none", "does not exist"]);
    home.fails(
        "importance m.onnx --data r.npy --batch-size 2 --shard 2/4 -o out",
        2,
        &["2/4", "3 batches", "--batch-size"],
    );
    for shard in ["0/4", "5/4", "1-2/4", "4", "a/b"] {
        let found = home.run(&format!("importance m.onnx --data r.npy --shard {shard} -o out"));
        assert_eq!((found.code, found.err.contains("3/8")), (2, true), "{shard}: {found:?}");
    }
    assert_eq!(home.run("merge -o out").code, 2);
}
