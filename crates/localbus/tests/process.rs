//! The bus in a process of its own: killed, and idle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_debug_implementations, dead_code)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::InitProducerIdRequest;
use kafka_protocol::records::Compression;
use rand::{Rng, SeedableRng};
use support::{Client, batch, batch_by, config, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DATA: &str = "LOCALBUS_TEST_DATA";
const ANNOUNCED: &str = "bus listens on ";

/// Not a test: the process that the tests below start and kill.
#[tokio::test]
#[ignore = "the tests of this file run it as a process"]
async fn bus_process() {
    let Ok(data) = std::env::var(DATA) else { return };
    let bus = support::start(Path::new(&data)).await;
    println!("\n{ANNOUNCED}{}", bus.addr());
    bus.stopped().await;
}

/// A running bus; killed when dropped.
struct Process(Child);

impl Process {
    fn start(data: &Path) -> (Self, SocketAddr) {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), data)
    }

    /// Files of this process cannot grow beyond so many blocks of 512 bytes: what a full disk does, without one.
    fn start_with_little_space(data: &Path, blocks: u32) -> (Self, SocketAddr) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\""));
        command.arg(std::env::current_exe().unwrap());
        Self::spawn(command, data)
    }

    fn spawn(mut command: Command, data: &Path) -> (Self, SocketAddr) {
        command.args(["--exact", "bus_process", "--ignored", "--nocapture"]).env(DATA, data);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let announced = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(ANNOUNCED)?.parse().ok());
        (Self(child), announced.expect("a bus that listens"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn sigkill_while_producing_loses_and_repeats_nothing() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (mut process, mut addr) = Process::start(folder.path());
    let mut client = Client::connect(addr).await;
    client.create("t", 1, &[("segment.bytes", "4000")]).await;
    let producer = client.call(&InitProducerIdRequest::default(), 4).await.producer_id.0;
    let mut sent = 0;
    for _ in 0..6 {
        let pid = process.0.id().to_string();
        let delay = Duration::from_millis(random.random_range(0..60));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            Command::new("kill").args(["-9", &pid]).status().unwrap();
        });
        // The batch that was under way when the bus died is sent again: a retry, as an idempotent producer does.
        while let Ok(response) = client.try_produce("t", numbered(sent, producer)).await {
            assert_eq!((response.error_code, response.base_offset), (0, i64::from(sent)), "seed {seed}");
            sent += 1;
        }
        killer.join().unwrap();
        (process, addr) = Process::start(folder.path());
        client = Client::connect(addr).await;
    }
    let last = client.produce("t", numbered(sent, producer)).await;
    assert_eq!((last.error_code, last.base_offset), (0, i64::from(sent)), "seed {seed}");
    let mut read = Vec::new();
    while read.len() <= sent as usize {
        let more = client.fetch("t", read.len() as i64).await;
        assert!(!more.is_empty(), "seed {seed}: {} of {}", read.len(), sent + 1);
        read.extend(more);
    }
    let expected: Vec<_> = (0..=sent).map(|n| n.to_string()).collect();
    assert_eq!(read, expected, "seed {seed}");
}

#[tokio::test]
async fn a_full_disk_refuses_new_records_and_keeps_the_old() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let folder = tempfile::tempdir().unwrap();
    let (process, addr) = Process::start_with_little_space(folder.path(), 100);
    let mut client = Client::connect(addr).await;
    client.create("t", 1, &[]).await;
    let value = "x".repeat(1000);
    let send = |n: i32| batch_by(&[format!("{n} {value}").as_str()], 7, n, Compression::None);
    let mut sent = 0;
    let full = ResponseError::KafkaStorageError.code();
    loop {
        let response = client.produce("t", send(sent)).await;
        if response.error_code == full {
            break;
        }
        assert_eq!((response.error_code, response.base_offset), (0, i64::from(sent)));
        sent += 1;
        assert!(sent < 1000, "the limit is not in force");
    }
    // A retry is refused as well, what was acknowledged is there, and nothing of the refused record is.
    assert_eq!(client.produce("t", send(sent)).await.error_code, full);
    assert_eq!(client.fetch("t", 0).await.len(), sent as usize);
    // Space again: the producer's next retry is taken, without a restart.
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(Pid::from_child(&process.0)), Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    assert_eq!(client.produce("t", send(sent)).await.base_offset, i64::from(sent));
    drop(process);
    let (_process, addr) = Process::start(folder.path());
    let read = Client::connect(addr).await.fetch("t", 0).await;
    let numbers: Vec<i32> = read.iter().map(|value| value.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..=sent).collect::<Vec<_>>());
}

/// The most memory that the process ever took, in MB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn frames_of_garbage_cost_their_connection_and_nothing_else() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (process, addr) = Process::start(folder.path());
    for _ in 0..2000 {
        // A request type and version that the bus speaks, a client id, and then anything, lengths of all sizes among it.
        let mut body = vec![0, random.random_range(0..70), 0, random.random_range(0..14)];
        body.extend([0, 0, 0, 1, 0xff, 0xff]);
        for _ in 0..random.random_range(1..40) {
            match random.random_range(0..4) {
                0 => body.push(0xff),
                1 => body.push(0),
                2 => body.push(random.random_range(0..8)),
                _ => body.push(random.random()),
            }
        }
        let mut client = Client::connect(addr).await;
        let _ = client.socket.write_all(&frame(body.len() as i32, &body)).await;
        let _ = tokio::time::timeout(Duration::from_millis(20), client.socket.read_u8()).await;
    }
    let mut client = Client::connect(addr).await;
    client.create("t", 1, &[]).await;
    assert_eq!(client.produce("t", batch(&["x"])).await.error_code, 0, "seed {seed}");
    assert!(peak(process.0.id()) < 200, "seed {seed}: {} MB", peak(process.0.id()));
}

fn numbered(n: i32, producer: i64) -> bytes::Bytes {
    batch_by(&[n.to_string().as_str()], producer, n, Compression::None)
}

/// How often any thread of the process has run.
fn wakeups(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let count = |status: String| -> u64 {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    status.map(count).sum()
}

#[tokio::test]
async fn an_idle_bus_with_topics_and_a_client_sleeps() {
    let folder = tempfile::tempdir().unwrap();
    let (process, addr) = Process::start(folder.path());
    let mut client = Client::connect(addr).await;
    client.create("t", 50, &[]).await;
    client.produce("t", batch(&["x"])).await;
    // Housekeeping looks at the new topic once; then there must come seconds in which nothing runs at all.
    let quiet = async {
        loop {
            let before = wakeups(process.0.id());
            tokio::time::sleep(Duration::from_secs(3)).await;
            if wakeups(process.0.id()) == before {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), quiet).await.expect("three seconds without a wakeup");
}

#[tokio::test]
async fn a_caller_that_blocks_its_runtime_is_served_too() {
    let folder = tempfile::tempdir().unwrap();
    let bus = mesh_localbus::LocalBus::start(config(folder.path())).await.unwrap();
    let addr = bus.addr();
    let blocking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Client::connect(addr).await.create("t", 1, &[]).await })
    });
    // This thread is the only one of its runtime.
    assert!(!blocking.join().unwrap().is_nil());
}
