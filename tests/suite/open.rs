//! Opening a device that may not be there: a test for it is then skipped with a printed reason, or
//! fails when `BURN_IVF_REQUIRE_GPU=1` says that the device has to be there.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use std::any::Any;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

/// The variable that turns a missing device into a failure.
pub const REQUIRE: &str = "BURN_IVF_REQUIRE_GPU";

/// Opens the default device of a backend and runs a first operation on it.
///
/// `None`: it does not open, the reason was printed. Call it once per process and keep the answer
/// (a runtime that failed once is not asked again).
pub fn open<B: Backend>(name: &str) -> Option<B::Device> {
    // A runtime opens its device on a thread of its own: the first panic there is the reason, what
    // arrives here only says that the thread is gone.
    static REASONS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let previous = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        if let (Some(reason), Ok(mut reasons)) = (text(panic.payload()), REASONS.lock()) {
            reasons.push(reason);
        }
    }));
    let opened = panic::catch_unwind(AssertUnwindSafe(|| {
        let device = B::Device::default();
        let data = TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0], [4]);
        let x = Tensor::<B, 1>::from_data(data, (&device, DType::F32));
        let sum: Vec<f32> = x.add_scalar(1.0).into_data().iter::<f32>().collect();
        assert_eq!(sum, [2.0, 3.0, 4.0, 5.0]);
        device
    }));
    panic::set_hook(previous);
    match opened {
        Ok(device) => {
            say(&format!("{name}: running on {}", B::name(&device)));
            Some(device)
        }
        Err(cause) => {
            let mut reasons = REASONS.lock().map(|mut r| std::mem::take(&mut *r));
            let reasons = reasons.as_mut().ok().filter(|reasons| !reasons.is_empty());
            let reason = reasons
                .map(|reasons| reasons.swap_remove(0))
                .or_else(|| text(&*cause))
                .unwrap_or_else(|| "no reason given".to_owned());
            let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
            assert!(
                !required,
                "{name}: no device opens, and {REQUIRE}=1: {reason}"
            );
            say(&format!("{name}: skipped, no device opens: {reason}"));
            None
        }
    }
}

/// What a panic says.
fn text(payload: &(dyn Any + Send)) -> Option<String> {
    let owned = payload.downcast_ref::<String>().cloned();
    owned.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
}

/// Prints past the test harness, which keeps the output of passing tests to itself.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
