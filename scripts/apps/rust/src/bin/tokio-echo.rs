//! An echo server on tokio's threads: `tokio-echo PORT`. Beside the connections there are timers, tasks that hand one
//! another messages, datagrams, files and child processes, whose results are compared. USR1 asks for one more child; TERM
//! ends it, with one line of counts.

use std::io::{Error, Result};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    /// Ended by the client's end of its side, all echoed.
    whole: AtomicU64,
    /// Ended by an error.
    broken: AtomicU64,
    bytes: AtomicU64,
    children: AtomicU64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let counts = Arc::new(Counts::default());
    let mut term = signal(SignalKind::terminate())?;
    let mut usr1 = signal(SignalKind::user_defined1())?;

    let beside = timeout(Duration::from_secs(20), beside()).await.map_err(Error::other)??;
    println!("BESIDE {beside}");

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let (start, mut ticks, mut tick) = (Instant::now(), 0_u64, interval(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                counts.accepted.fetch_add(1, Relaxed);
                let counts = Arc::clone(&counts);
                tasks.spawn(async move {
                    let ended = match serve(stream, &counts).await {
                        Ok(()) => &counts.whole,
                        Err(_) => &counts.broken,
                    };
                    ended.fetch_add(1, Relaxed);
                });
            }
            Some(()) = usr1.recv() => {
                let counts = Arc::clone(&counts);
                tasks.spawn(async move {
                    child().await.expect("a child process");
                    counts.children.fetch_add(1, Relaxed);
                    println!("CHILD");
                });
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => ended.map_err(Error::other)?,
            _ = tick.tick() => ticks += 1,
            _ = term.recv() => break,
        }
    }
    drop(listener);
    let due = start.elapsed().as_millis() / 10 + 1;
    while let Some(ended) =
        timeout(Duration::from_secs(5), tasks.join_next()).await.map_err(Error::other)?
    {
        ended.map_err(Error::other)?;
    }
    let get = |count: &AtomicU64| count.load(Relaxed);
    println!(
        "SERVED accepted={} whole={} broken={} bytes={} children={} ticks={ticks} due={due}",
        get(&counts.accepted),
        get(&counts.whole),
        get(&counts.broken),
        get(&counts.bytes),
        get(&counts.children)
    );
    Ok(())
}

async fn serve(stream: TcpStream, counts: &Counts) -> Result<()> {
    // Two tasks a connection, which may run on two threads: one registration, waited on for input and for room.
    let (mut from, mut to) = stream.into_split();
    let (hand, mut handed) = mpsc::channel::<Vec<u8>>(4);
    let writer = tokio::spawn(async move {
        while let Some(data) = handed.recv().await {
            to.write_all(&data).await?;
        }
        to.shutdown().await
    });
    let mut buffer = vec![0; 16384];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        counts.bytes.fetch_add(count as u64, Relaxed);
        if hand.send(buffer[..count].to_vec()).await.is_err() {
            break;
        }
    }
    drop(hand);
    writer.await.map_err(Error::other)?
}

/// What goes into a child comes out of it, and its end is told.
async fn child() -> Result<()> {
    let said: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut to, mut from) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let data = said.clone();
    let writer = tokio::spawn(async move { to.write_all(&data).await });
    let mut got = Vec::new();
    from.read_to_end(&mut got).await?;
    writer.await.map_err(Error::other)??;
    assert_eq!(got, said, "what cat gave back");
    assert!(child.wait().await?.success());
    let status = Command::new("sh").args(["-c", "exit 9"]).status().await?;
    assert_eq!(status.code(), Some(9));
    Ok(())
}

/// Everything that needs no connection from outside, at once.
async fn beside() -> Result<String> {
    let timers = tokio::spawn(async {
        let start = Instant::now();
        let mut set = JoinSet::new();
        for number in 0..1000_u64 {
            set.spawn(async move {
                let due = Duration::from_millis(number * 7 % 300);
                sleep(due).await;
                assert!(start.elapsed() >= due, "a timer that fires early");
            });
        }
        set.join_all().await.len()
    });
    let tasks = tokio::spawn(async {
        let (hand, mut handed) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(8);
        let server = tokio::spawn(async move {
            while let Some((number, answer)) = handed.recv().await {
                answer.send(number * number).expect("somebody waits");
            }
        });
        for number in 0..5000 {
            let (answer, answered) = oneshot::channel();
            hand.send((number, answer)).await.expect("the server runs");
            assert_eq!(answered.await.expect("an answer"), number * number);
        }
        drop(hand);
        server.await.expect("an end");
        5000
    });
    let blocking = tokio::spawn(async {
        let mut set = JoinSet::new();
        for number in 0..200_u64 {
            set.spawn_blocking(move || {
                std::thread::sleep(Duration::from_millis(1));
                number
            });
        }
        assert_eq!(set.join_all().await.iter().sum::<u64>(), 19900);
        200
    });
    let (packets, pairs) = (datagrams(), pair());
    let (packets, pairs, children) = tokio::try_join!(packets, pairs, async {
        for _ in 0..5 {
            child().await?;
        }
        Ok(10)
    })?;
    Ok(format!(
        "{} timers, {} requests between tasks, {} blocking calls, {packets} datagrams, {pairs} bytes over a socket pair, \
         {children} child processes",
        timers.await?,
        tasks.await?,
        blocking.await?
    ))
}

async fn datagrams() -> Result<u32> {
    let (one, other) =
        (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    one.connect(other.local_addr()?).await?;
    other.connect(one.local_addr()?).await?;
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 4];
        for _ in 0..1000 {
            let count = other.recv(&mut buffer).await?;
            other.send(&buffer[..count]).await?;
        }
        Ok::<_, Error>(())
    });
    let mut buffer = [0; 4];
    for number in 0..1000_u32 {
        one.send(&number.to_be_bytes()).await?;
        assert_eq!(one.recv(&mut buffer).await?, 4);
        assert_eq!(u32::from_be_bytes(buffer), number);
    }
    echo.await??;
    Ok(1000)
}

/// A UNIX pair, filled until the writer has to wait, read in odd pieces.
async fn pair() -> Result<usize> {
    const SIZE: usize = 3_000_000;
    let (mut one, mut other) = UnixStream::pair()?;
    let said: Vec<u8> = (0..SIZE).map(|at| (at % 253) as u8).collect();
    let data = said.clone();
    let writer = tokio::spawn(async move {
        one.write_all(&data).await?;
        one.shutdown().await
    });
    let (mut got, mut buffer) = (Vec::new(), vec![0; 7777]);
    loop {
        let count = other.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        got.extend_from_slice(&buffer[..count]);
        if got.len() % 5 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.await??;
    assert_eq!(got, said, "what came over the pair");
    Ok(SIZE)
}
