//! When the daemon talks to the server. Pure: time comes in as an argument.
//!
//! Three independent due times: the next login try, the next inventory, the next check for a
//! deployment. While a login is needed, it holds back the other two.
//!
//! Source: reference agent section 2; weaknesses W4 and W5 cured by jitter and an own login retry.

use std::time::{Duration, Instant};

use crate::{
    backoff::{Backoff, jittered},
    config::PollConfig,
};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub inventory: bool,
    pub update: bool,
}

#[derive(Debug)]
pub(super) struct Schedule {
    polls: PollConfig,
    login: Instant,
    inventory: Instant,
    update: Instant,
    login_backoff: Backoff,
    inventory_backoff: Backoff,
    update_backoff: Backoff,
}

impl Schedule {
    /// Everything is due at once.
    pub fn new(polls: PollConfig, now: Instant) -> Self {
        let backoff = Backoff::new(&polls);
        Self {
            polls,
            login: now,
            inventory: now,
            update: now,
            login_backoff: backoff.clone(),
            inventory_backoff: backoff.clone(),
            update_backoff: backoff,
        }
    }

    /// When to look again.
    pub fn next(&self) -> Instant {
        self.login.max(self.inventory.min(self.update))
    }

    /// When the inventory is due, and a login is not to be waited for.
    pub fn next_inventory(&self) -> Instant {
        self.login.max(self.inventory)
    }

    pub fn due(&self, now: Instant) -> Due {
        let open = self.login <= now;
        Due {
            inventory: open && self.inventory <= now,
            update: open && self.update <= now,
        }
    }

    /// Somebody asked for an inventory or a check: no wait counts.
    pub fn trigger_inventory(&mut self, now: Instant) {
        self.inventory = now;
        self.login = now;
    }

    pub fn trigger_update(&mut self, now: Instant) {
        self.update = now;
        self.login = now;
    }

    /// The device was accepted: it shows itself at once.
    pub fn logged_in(&mut self, now: Instant) {
        self.login_backoff.reset();
        self.login = now;
        self.inventory = self.inventory.min(now);
        self.update = self.update.min(now);
    }

    /// Never gives up; the wait grows to the cap and stays there.
    pub fn login_failed(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        let grown = self
            .login_backoff
            .next_wait()
            .unwrap_or(self.polls.retry_interval_max);
        let wait = retry_after.unwrap_or_else(|| jittered(grown));
        self.login = now + wait;
        wait
    }

    pub fn inventory_done(&mut self, now: Instant) {
        self.inventory_backoff.reset();
        self.inventory = now + jittered(self.polls.inventory_interval);
    }

    pub fn inventory_failed(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        let regular = self.polls.inventory_interval;
        let wait = failed(&mut self.inventory_backoff, regular, retry_after);
        self.inventory = now + wait;
        wait
    }

    pub fn update_done(&mut self, now: Instant) {
        self.update_backoff.reset();
        self.update = now + jittered(self.polls.update_interval);
    }

    pub fn update_failed(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        let regular = self.polls.update_interval;
        let wait = failed(&mut self.update_backoff, regular, retry_after);
        self.update = now + wait;
        wait
    }

    /// After a deployment: the inventory tells the new software, and soon the server is asked whether
    /// there is more to do.
    pub fn deployment_ended(&mut self, now: Instant) {
        self.inventory = now;
        self.update = now
            + jittered(
                self.polls
                    .retry_interval_min
                    .min(self.polls.update_interval),
            );
    }

    /// A deployment waits on the server for the time when it may begin. Many devices wait for the same one.
    pub fn held(&mut self, now: Instant, wait: Option<Duration>) {
        let regular = jittered(self.polls.update_interval);
        let opening = wait.map(|wait| wait.saturating_add(jittered(self.polls.retry_interval_min)));
        self.update = now + opening.map_or(regular, |opening| opening.min(regular));
    }

    /// Scripts of the device keep a deployment from beginning.
    pub fn kept_back(&mut self, now: Instant, wait: Duration) -> Duration {
        let wait = jittered(wait);
        self.update = now + wait;
        wait
    }

    /// Another process works on the device: look again soon.
    pub fn postponed(&mut self, now: Instant) {
        let soon = now + jittered(self.polls.retry_interval_min);
        self.inventory = self.inventory.max(soon);
        self.update = self.update.max(soon);
    }
}

/// The server's wish, else the backoff, else the regular interval.
fn failed(backoff: &mut Backoff, regular: Duration, retry_after: Option<Duration>) -> Duration {
    let own = backoff.next_wait();
    retry_after.unwrap_or_else(|| jittered(own.unwrap_or(regular).min(regular)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLS: PollConfig = PollConfig {
        update_interval: Duration::from_secs(1800),
        inventory_interval: Duration::from_secs(28_800),
        retry_interval_min: Duration::from_secs(60),
        retry_interval_max: Duration::from_secs(300),
        retry_count: 0,
    };

    fn close_to(wait: Duration, seconds: u64) -> bool {
        (wait.as_secs_f64() / Duration::from_secs(seconds).as_secs_f64() - 1.0).abs() <= 0.1001
    }

    #[test]
    fn everything_is_due_at_start_and_then_at_its_interval() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        assert_eq!(
            schedule.due(now),
            Due {
                inventory: true,
                update: true
            }
        );
        schedule.inventory_done(now);
        schedule.update_done(now);
        assert_eq!(
            schedule.due(now),
            Due {
                inventory: false,
                update: false
            }
        );
        assert!(close_to(schedule.next() - now, 1800));
    }

    #[test]
    fn a_refused_login_holds_everything_back_but_never_for_long() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        for tries in 0..50 {
            let wait = schedule.login_failed(now, None);
            assert!(wait <= Duration::from_secs(330), "try {tries}: {wait:?}");
            assert_eq!(
                schedule.due(now),
                Due {
                    inventory: false,
                    update: false
                }
            );
        }
        schedule.logged_in(now);
        assert_eq!(
            schedule.due(now),
            Due {
                inventory: true,
                update: true
            }
        );
    }

    #[test]
    fn errors_back_off_and_then_wait_for_the_regular_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        let expected = [
            60, 60, 60, 120, 120, 120, 240, 240, 240, 300, 300, 300, 1800, 1800,
        ];
        for seconds in expected {
            let wait = schedule.update_failed(now, None);
            assert!(close_to(wait, seconds), "{wait:?} instead of {seconds}");
        }
        schedule.update_done(now);
        assert!(close_to(schedule.update_failed(now, None), 60));
    }

    #[test]
    fn the_servers_wish_and_the_users_wish_count() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        assert_eq!(
            schedule.update_failed(now, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        schedule.login_failed(now, None);
        schedule.trigger_update(now);
        assert!(schedule.due(now).update);
    }

    #[test]
    fn a_held_deployment_is_asked_for_when_it_may_begin() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        schedule.inventory_done(now);
        schedule.held(now, None);
        assert!(close_to(schedule.next() - now, 1800));
        schedule.held(now, Some(Duration::from_secs(100_000)));
        assert!(close_to(schedule.next() - now, 1800), "an abort is seen");
        schedule.held(now, Some(Duration::from_secs(240)));
        assert!(close_to(schedule.next() - now, 300));
    }

    #[test]
    fn a_deployment_is_followed_by_an_inventory_and_an_early_check() {
        let now = Instant::now();
        let mut schedule = Schedule::new(POLLS, now);
        schedule.deployment_ended(now);
        assert!(schedule.due(now).inventory);
        schedule.inventory_done(now);
        assert!(close_to(schedule.next() - now, 60));
    }
}
