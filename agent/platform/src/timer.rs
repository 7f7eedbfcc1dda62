//! A wait that wakes the process once.
//!
//! The runtime's own timers are kept coarsely while they are far away: it wakes several times on the way to one, to
//! look closer. A device that sleeps for half an hour between two polls should not.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until `deadline`.
pub async fn sleep_until(deadline: Instant) {
    let wait = deadline.saturating_duration_since(Instant::now());
    match kernel_timer(wait) {
        Ok(timer) if timer.readable().await.is_ok() => {}
        // out of file descriptors: the runtime's timer needs none
        _ => tokio::time::sleep_until(deadline.into()).await,
    }
}

/// Readable when the time has passed.
#[expect(
    deprecated,
    reason = "the descriptor is our own and stays open as long as it is watched"
)]
fn kernel_timer(wait: Duration) -> std::io::Result<AsyncFd<OwnedFd>> {
    // zero would switch it off
    let wait = wait.max(Duration::from_nanos(1));
    let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    timer.set(
        Expiration::OneShot(TimeSpec::from_duration(wait)),
        TimerSetTimeFlags::empty(),
    )?;
    AsyncFd::with_interest(OwnedFd::from(timer), Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_at_the_deadline_and_not_before() {
        for wait in [Duration::ZERO, Duration::from_millis(30)] {
            let deadline = Instant::now() + wait;
            sleep_until(deadline).await;
            assert!(Instant::now() >= deadline);
        }
        let past = Instant::now();
        sleep_until(past).await;
    }

    #[tokio::test]
    async fn it_gives_way_to_what_comes_first() {
        tokio::select! {
            () = sleep_until(Instant::now() + Duration::from_secs(3600)) => unreachable!("an hour"),
            () = tokio::task::yield_now() => {}
        }
    }
}
