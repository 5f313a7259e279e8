//! Random schedules: every back end answers what the model answers, call by call, and keeps what the
//! model keeps.
//!
//! A schedule is a list of [`Step`]s, so a failing one shrinks to the few that matter. They are carried
//! out on two queues that share a clock, on the level of the protocol: by workers of which some have
//! been reaped and do not know it, with replies that are lost, requests that arrive late or again,
//! pauses, and a clock that jumps. At the end everything is delivered and nothing may be left.

mod step;
mod world;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::clock::Clock;
use crate::harness::{Embedded, Harness, Model, Served};
use step::Step;
use world::World;

#[test]
fn redis_answers_as_the_model() {
    let runtime = runtime();
    let served = Served::start();
    under_random_schedules(|steps| {
        served.forget();
        let model = Model::by(served.clock().clone());
        runtime.block_on(World::new(&model, &served).run(steps));
    });
}

#[test]
fn embedded_answers_as_the_model() {
    let runtime = runtime();
    under_random_schedules(|steps| {
        let clock = Clock::new();
        let (model, embedded) = (Model::by(clock.clone()), Embedded::by(clock));
        runtime.block_on(World::new(&model, &embedded).run(steps));
    });
}

fn under_random_schedules(run: impl Fn(Vec<Step>)) {
    // The same schedules in every run, so that a build can be repeated: PROPTEST_RNG_SEED and
    // PROPTEST_CASES look further.
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..config
    };
    let outcome = TestRunner::new(config).run(&vec(step::step(), 1..80), |steps| {
        run(steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime")
}

const SEED: u64 = 20_261_124;
