use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The clock that leases and deadlines are counted on: monotonic, and it goes on while the machine
/// is suspended, as the back end's does.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// CLOCK_BOOTTIME, where the system has it.
    pub fn boot_time() -> Self {
        Self::new(|| {
            #[cfg(target_os = "linux")]
            let id = rustix::time::ClockId::Boottime;
            #[cfg(not(target_os = "linux"))]
            let id = rustix::time::ClockId::Monotonic;
            let time = rustix::time::clock_gettime(id);
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or(0),
                u32::try_from(time.tv_nsec).unwrap_or(0),
            )
        })
    }

    /// A clock of the caller's, counted from any moment.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}
