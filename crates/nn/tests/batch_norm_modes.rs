//! Batch norm beyond one batch at a time: ghosts, micro-batches, replicas, mixtures, exact recalibration,
//! other dispersions.

mod support;

use std::sync::Arc;
use std::thread;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use evenkeel_kernels::{
    Activation, Affine, Channels, Moments, batch_norm_apply, batch_norm_gradient_of_sums,
    channel_gradient_sums, channel_moments,
};
use evenkeel_nn::{
    BatchNorm, BatchNormConfig, Dispersion, DropoutConfig, InstanceNormConfig, Pass, Replica,
    RunningAverage, in_process, recalibrate_exactly,
};
use support::layers::autodiff;
use support::{assert_near, message, norm, plain, random_of, running, tracked, values};

/// Rows `examples` of a table.
fn part<const D: usize>(x: &Tensor<D>, examples: std::ops::Range<usize>) -> Tensor<D> {
    x.clone().slice_dim(0, examples)
}

mod ghosts {
    use super::*;

    #[test]
    fn are_batches_of_their_own() {
        let config = BatchNormConfig::new(2).with_average(RunningAverage::Momentum(0.3));
        let (ghosts, apart) = (
            config.clone().with_ghost_size(Some(3)).init(&plain()),
            config.init(&plain()),
        );
        let x = random_of::<3>(1, [11, 2, 4], &plain());
        let y = ghosts.forward(x.clone(), &Pass::train(0, 0));
        // Eleven examples are three parts of at least three.
        let edges = [0..3, 3..7, 7..11];
        let parts = edges.map(|examples| apart.forward(part(&x, examples), &Pass::train(0, 0)));
        assert_eq!(values(y), values(Tensor::cat(parts.to_vec(), 0)));
        assert_eq!(running(&ghosts), running(&apart));
        assert_eq!((tracked(&ghosts), tracked(&apart)), (3, 3));
    }

    #[test]
    fn are_for_batch_statistics_alone() {
        let ghosts = BatchNormConfig::new(2)
            .with_ghost_size(Some(2))
            .init(&plain());
        let whole = norm(&plain());
        let x = random_of::<2>(1, [9, 2], &plain());
        ghosts.forward(x.clone(), &Pass::recalibrate());
        whole.forward(x.clone(), &Pass::recalibrate());
        let ((mean, var), expected) = (running(&ghosts), running(&whole));
        assert_near("mean", &mean, &expected.0, 1e-6);
        assert_near("var", &var, &expected.1, 1e-6);
        let [found, expected] =
            [&ghosts, &whole].map(|norm| values(norm.forward(x.clone(), &Pass::test())));
        assert_near("test", &found, &expected, 1e-6);
    }

    #[test]
    fn smaller_batches_than_a_ghost_are_one() {
        let ghosts = BatchNormConfig::new(2)
            .with_ghost_size(Some(8))
            .init(&plain());
        let x = random_of::<2>(1, [5, 2], &plain());
        let (found, expected) = (
            ghosts.forward(x.clone(), &Pass::train(0, 0)),
            norm(&plain()).forward(x, &Pass::train(0, 0)),
        );
        assert_eq!(values(found), values(expected));
        let none = message(|| {
            BatchNormConfig::new(2)
                .with_ghost_size(Some(0))
                .init(&plain());
        });
        assert!(none.contains("ghost_size = 0"), "{none}");
    }
}

mod micro_batches {
    use super::*;

    /// After each micro-batch, the running statistics are those of all so far as one batch.
    #[test]
    fn count_as_one_step() {
        for average in [RunningAverage::Momentum(0.3), RunningAverage::Cumulative] {
            let config = BatchNormConfig::new(2).with_average(average);
            let (micro, whole) = (config.init(&plain()), config.init(&plain()));
            for step in 0..3 {
                let x = random_of::<2>(step, [12, 2], &plain()) * 3.0 + step as f64;
                let pass = Pass::train(0, step).over_micro_batches();
                for examples in [0..5, 5..7, 7..12] {
                    micro.forward(part(&x, examples), &pass);
                }
                whole.forward(x, &Pass::train(0, step));
                assert_eq!(tracked(&micro), tracked(&whole));
                let ((mean, var), expected) = (running(&micro), running(&whole));
                assert_near("mean", &mean, &expected.0, 1e-5);
                assert_near("var", &var, &expected.1, 1e-5);
            }
        }
    }

    #[test]
    fn change_nothing_where_statistics_are_kept() {
        let norm = norm(&plain());
        let before = running(&norm);
        let x = random_of::<2>(1, [4, 2], &plain());
        norm.forward(x, &Pass::test().over_micro_batches());
        assert_eq!(running(&norm), before);
    }

    #[test]
    fn of_an_instance_norm_average() {
        let config = InstanceNormConfig::new(2)
            .with_track_running_stats(true)
            .with_average(RunningAverage::Momentum(0.3));
        let (micro, whole) = (config.init(&plain()), config.init(&plain()));
        let x = random_of::<3>(3, [6, 2, 5], &plain()) * 2.0 + 1.0;
        let pass = Pass::train(0, 0).over_micro_batches();
        for examples in [0..2, 2..3, 3..6] {
            micro.forward(part(&x, examples), &pass);
        }
        whole.forward(x, &Pass::train(0, 0));
        let state = |norm: &evenkeel_nn::InstanceNorm| {
            let buffers = [&norm.running_mean, &norm.running_var];
            buffers.map(|buffer| values(buffer.as_ref().expect("tracked").get(&plain())))
        };
        let (found, expected) = (state(&micro), state(&whole));
        for (found, expected) in found.iter().zip(&expected) {
            assert_near("statistics", found, expected, 1e-5);
        }
    }
}

mod mixtures {
    use super::*;

    #[test]
    fn are_between_running_and_batch() {
        let norm = norm(&plain());
        norm.running_mean
            .set(Tensor::from_data([1.0, -2.0], &plain()));
        norm.running_var
            .set(Tensor::from_data([4.0, 0.5], &plain()));
        let x = random_of::<2>(1, [7, 2], &plain()) * 3.0;
        let at = |pass: Pass| values(norm.forward(x.clone(), &pass));
        let mixed = |running| at(Pass::test().mix_statistics(running));
        let before = running(&norm);
        assert_near("all running", &mixed(1.0), &at(Pass::test()), 1e-6);
        let batch_alone = mixed(0.0);
        let (found, after) = (mixed(0.25), running(&norm));
        assert_eq!(after, before);
        assert_near("all batch", &batch_alone, &at(Pass::train(0, 0)), 1e-6);

        let column = |channel: usize| -> Vec<f64> {
            let values = values(x.clone());
            let values = values.iter().skip(channel).step_by(2);
            values.map(|&value| f64::from(value)).collect()
        };
        for (channel, (mean, variance)) in [(1.0, 4.0), (-2.0, 0.5)].into_iter().enumerate() {
            let x = column(channel);
            let of_batch = Moments::of(&x);
            let mean = 0.25 * mean + 0.75 * of_batch.mean;
            let deviation = (0.25 * variance + 0.75 * of_batch.variance() + 1e-5).sqrt();
            for (example, x) in x.iter().enumerate() {
                let expected = ((x - mean) / deviation) as f32;
                let found = found[example * 2 + channel];
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    #[test]
    fn refuse_a_share_out_of_range() {
        let text = message(|| drop(Pass::test().mix_statistics(1.5)));
        assert!(text.contains("0..=1, got 1.5"), "{text}");
    }
}

mod replicas {
    use super::*;

    const EDGES: [std::ops::Range<usize>; 3] = [0..3, 3..4, 4..9];
    const SHAPE: [usize; 4] = [9, 3, 4, 5];

    struct Ran {
        y: Vec<f32>,
        dx: Vec<f32>,
        dscale: Vec<f32>,
        dshift: Vec<f32>,
        running: (Vec<f32>, Vec<f32>),
    }

    fn layer(activation: Activation) -> BatchNorm {
        let config = BatchNormConfig::new(SHAPE[1]).with_activation(activation);
        let mut norm = config.init(&autodiff());
        let parameter = |parameter: Option<burn::module::Param<Tensor<1>>>, seed| {
            let value = random_of::<1>(seed, [SHAPE[1]], &autodiff());
            parameter.map(|parameter| parameter.map(|_| value.require_grad()))
        };
        norm.weight = parameter(norm.weight.take(), 20);
        norm.bias = parameter(norm.bias.take(), 21);
        norm
    }

    fn run(norm: &BatchNorm, x: Tensor<4>, dy: Tensor<4>, pass: &Pass) -> Ran {
        let x = x.require_grad();
        let y = norm.forward(x.clone(), pass);
        let gradients = (y.clone() * dy).sum().backward();
        let parameter = |parameter: &Option<burn::module::Param<Tensor<1>>>| {
            let parameter = parameter.as_ref().expect("affine").val();
            values(parameter.grad(&gradients).expect("a gradient"))
        };
        Ran {
            y: values(y),
            dx: values(x.grad(&gradients).expect("a gradient")),
            dscale: parameter(&norm.weight),
            dshift: parameter(&norm.bias),
            running: running(norm),
        }
    }

    /// Each part on a thread and a replica of its own.
    fn on_threads(activation: Activation, x: &Tensor<4>, dy: &Tensor<4>) -> Vec<Ran> {
        let norm = layer(activation);
        thread::scope(|scope| {
            let replicas = in_process(EDGES.len()).into_iter().zip(EDGES);
            let threads: Vec<_> = replicas
                .map(|(replica, examples)| {
                    let norm = norm.clone().fork(&autodiff());
                    let [x, dy] = [x, dy].map(|all| part(all, examples.clone()));
                    scope.spawn(move || run(&norm, x, dy, &Pass::train(0, 0).replica(replica)))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|ran| ran.expect("no panic")).collect()
        })
    }

    #[test]
    fn are_one_batch() {
        let device = autodiff();
        let x = random_of::<4>(1, SHAPE, &device) * 2.0 + 100.0;
        let dy = random_of::<4>(2, SHAPE, &device);
        for activation in [Activation::None, Activation::Relu] {
            let whole = run(
                &layer(activation),
                x.clone(),
                dy.clone(),
                &Pass::train(0, 0),
            );
            let parts = on_threads(activation, &x, &dy);
            let joined = |of: fn(&Ran) -> &Vec<f32>| parts.iter().flat_map(of).copied().collect();
            let found: Vec<f32> = joined(|ran| &ran.y);
            assert_near("output", &found, &whole.y, 1e-4);
            let found: Vec<f32> = joined(|ran| &ran.dx);
            assert_near("dx", &found, &whole.dx, 1e-4);
            let summed = |of: fn(&Ran) -> &Vec<f32>| -> Vec<f32> {
                let channels = 0..SHAPE[1];
                channels
                    .map(|channel| parts.iter().map(|ran| of(ran)[channel]).sum())
                    .collect()
            };
            assert_near("dscale", &summed(|ran| &ran.dscale), &whole.dscale, 1e-4);
            assert_near("dshift", &summed(|ran| &ran.dshift), &whole.dshift, 1e-4);
            for ran in &parts {
                assert_eq!(ran.running, parts[0].running, "all replicas alike");
                assert_near("mean", &ran.running.0, &whole.running.0, 1e-6);
                assert_near("var", &ran.running.1, &whole.running.1, 1e-5);
            }
        }
    }

    /// The same partition, computed part after part on one thread: the same bits.
    #[test]
    fn are_the_partition_bit_for_bit() {
        let device = autodiff();
        let x = random_of::<4>(1, SHAPE, &device) * 2.0 + 100.0;
        let dy = random_of::<4>(2, SHAPE, &device);
        let [n, c, h, w] = SHAPE;
        let all = [&x, &dy].map(|tensor| values(tensor.clone()));
        let norm = layer(Activation::Relu);
        let parameter = |parameter: &Option<burn::module::Param<Tensor<1>>>| {
            values(parameter.as_ref().expect("affine").val())
        };
        let (scale, shift) = (parameter(&norm.weight), parameter(&norm.bias));
        let affine = Some(Affine {
            scale: &scale,
            shift: &shift,
        });
        let parts = EDGES.map(|examples| {
            let shape = Channels {
                n: examples.len(),
                c,
                s: h * w,
            };
            let [x, dy] = all.each_ref().map(|values| {
                values[examples.start * c * h * w..examples.end * c * h * w].to_vec()
            });
            (shape, x, dy)
        });
        // The moments travel as mean and variance.
        let moments = parts.each_ref().map(|(shape, x, _)| {
            let moments = channel_moments(x, *shape).into_iter();
            moments.map(|part| Moments {
                m2: part.count * part.variance(),
                ..part
            })
        });
        let mut whole = vec![Moments::default(); c];
        for part in moments {
            let merged = whole.iter().zip(part);
            whole = merged.map(|(all, part)| all.merge(&part)).collect();
        }
        let mean: Vec<f32> = whole.iter().map(|whole| whole.mean as f32).collect();
        let variance = whole.iter().map(|whole| whole.variance() as f32);
        let r: Vec<f32> = variance.map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        let mut sums = vec![[0.0; 2]; c];
        for (shape, x, dy) in &parts {
            let part = channel_gradient_sums(x, dy, *shape, &mean, &r, affine, Activation::Relu);
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum = [sum[0] + part[0], sum[1] + part[1]];
            }
        }
        let count = (n * h * w) as f64;
        for _ in 0..20 {
            let ran = on_threads(Activation::Relu, &x, &dy);
            for ((shape, x, dy), ran) in parts.iter().zip(ran) {
                let relu = Activation::Relu;
                assert_eq!(ran.y, batch_norm_apply(x, *shape, &mean, &r, affine, relu));
                let dx = batch_norm_gradient_of_sums(
                    x, dy, *shape, &mean, &r, affine, relu, &sums, count,
                );
                assert_eq!(ran.dx, dx);
            }
        }
    }

    #[test]
    fn draw_noise_of_their_own() {
        let dropout = DropoutConfig::new(0.5).init();
        let masks: Vec<_> = in_process(2)
            .into_iter()
            .map(|replica| {
                let pass = Pass::train(0, 0).replica(replica);
                values(dropout.forward(Tensor::<1>::ones([64], &plain()), &pass))
            })
            .collect();
        assert_ne!(masks[0], masks[1]);
    }

    #[test]
    fn one_that_panics_takes_the_others_with_it() {
        let norm = norm(&plain());
        let [first, second]: [Arc<dyn Replica>; 2] =
            in_process(2).try_into().expect("two replicas");
        let text = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let pass = Pass::train(0, 0).replica(first);
                message(|| {
                    norm.forward(random_of::<2>(1, [3, 2], &plain()), &pass);
                })
            });
            scope.spawn(move || drop(second));
            waiting.join().expect("the panic is caught")
        });
        assert!(text.contains("another replica is gone"), "{text}");
    }

    #[test]
    fn one_value_in_all_is_refused() {
        let [alone]: [Arc<dyn Replica>; 1] = in_process(1).try_into().expect("one replica");
        let text = message(|| {
            let pass = Pass::train(0, 0).replica(alone);
            norm(&plain()).forward(Tensor::<2>::ones([1, 2], &plain()), &pass);
        });
        assert!(text.contains("more than one value per channel"), "{text}");
    }
}

mod recalibration {
    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        first: BatchNorm,
        second: BatchNorm,
        third: BatchNorm,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            let norm = || BatchNormConfig::new(2).init(device);
            Self {
                first: norm(),
                second: norm(),
                third: norm(),
            }
        }

        fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
            let x = self.first.forward(x, pass).tanh();
            let x = self.second.forward(x.clone().square() - x, pass).exp();
            self.third.forward(x, pass)
        }

        fn state(&self) -> Vec<f32> {
            let norms = [&self.first, &self.second, &self.third];
            let state = norms.into_iter().flat_map(|norm| {
                let (mean, var) = running(norm);
                [mean, var].concat()
            });
            state.collect()
        }
    }

    /// However the data are cut into batches, and the same as of one batch.
    #[test]
    fn is_exact_for_every_layer() {
        let x = random_of::<2>(1, [24, 2], &plain()) * 2.0;
        let cut = |edges: &[usize], exactly: bool| {
            let net = Net::new(&plain());
            let epoch = |pass: &Pass| {
                for edges in edges.windows(2) {
                    net.forward(part(&x, edges[0]..edges[1]), pass);
                }
                Ok::<_, std::convert::Infallible>(())
            };
            if exactly {
                assert_eq!(recalibrate_exactly(epoch), Ok(3));
            } else {
                let Ok(()) = epoch(&Pass::recalibrate());
            }
            net.state()
        };
        let whole = cut(&[0, 24], false);
        // The running variance is the unbiased one, the batch's is not: near, not equal.
        assert_near("one batch", &cut(&[0, 24], true), &whole, 0.1);
        let expected = cut(&[0, 24], true);
        for edges in [&[0, 8, 16, 24][..], &[0, 2, 4, 20, 24]] {
            assert_near("batches", &cut(edges, true), &expected, 1e-4);
            let one_epoch = cut(edges, false);
            let worst = one_epoch.iter().zip(&expected);
            let worst = worst.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                worst > 0.01,
                "one epoch depends on the batches, or this test shows nothing"
            );
        }
    }

    #[test]
    fn stops_with_the_data() {
        let net = Net::new(&plain());
        let mut epochs = 0;
        let failed = recalibrate_exactly(|pass| {
            epochs += 1;
            net.forward(random_of::<2>(1, [4, 2], &plain()), pass);
            if epochs == 2 {
                Err("no more data")
            } else {
                Ok(())
            }
        });
        assert_eq!((failed, epochs), (Err("no more data"), 2));
        assert_eq!(recalibrate_exactly(|_| Ok::<_, ()>(())), Ok(0));
    }
}

mod dispersions {
    use super::*;

    fn definition(x: &[f64], dispersion: Dispersion) -> f64 {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let distances = x.iter().map(|x| (x - mean).abs());
        match dispersion {
            Dispersion::Deviation => (distances.map(|d| d * d).sum::<f64>() / n).sqrt(),
            Dispersion::MeanAbsolute => {
                (std::f64::consts::PI / 2.0).sqrt() * distances.sum::<f64>() / n
            }
            Dispersion::Maximum => distances.fold(0.0, f64::max) / (2.0 * n.ln()).sqrt(),
        }
    }

    const ALL: [Dispersion; 3] = [
        Dispersion::Deviation,
        Dispersion::MeanAbsolute,
        Dispersion::Maximum,
    ];

    #[test]
    fn divide_by_what_they_say() {
        let x = random_of::<3>(1, [6, 2, 5], &plain()).cast(FloatDType::F64) * 3.0 + 1.0;
        let numbers: Vec<f64> = x.clone().into_data().iter::<f64>().collect();
        let channel = |c: usize| -> Vec<f64> {
            let of_channel = numbers.chunks(5).skip(c).step_by(2);
            of_channel.flatten().copied().collect()
        };
        for dispersion in ALL {
            let config = BatchNormConfig::new(2)
                .with_dispersion(dispersion)
                .with_average(RunningAverage::Momentum(1.0))
                .with_unbiased(false);
            let norm = config.init(&plain());
            let y = norm.forward(x.clone(), &Pass::train(0, 0));
            let test = norm.forward(x.clone(), &Pass::test());
            let found: Vec<f64> = y.into_data().iter::<f64>().collect();
            let (_, var) = running(&norm);
            for c in 0..2 {
                let x = channel(c);
                let spread = definition(&x, dispersion);
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                assert!((f64::from(var[c]) - spread * spread).abs() < 1e-5);
                let found = found.chunks(5).skip(c).step_by(2).flatten();
                for (x, found) in x.iter().zip(found) {
                    let expected = (x - mean) / (spread * spread + 1e-5).sqrt();
                    assert!((found - expected).abs() < 1e-9, "{dispersion:?}");
                }
            }
            let found: Vec<f32> = found.iter().map(|&y| y as f32).collect();
            assert_near("test", &values(test), &found, 1e-5);
        }
    }

    /// Of many normal values all are the deviation.
    #[test]
    fn agree_on_normal_values() {
        let x = random_of::<2>(3, [40_000, 1], &plain()) * 3.0;
        let spreads = ALL.map(|dispersion| {
            let config = BatchNormConfig::new(1)
                .with_dispersion(dispersion)
                .with_average(RunningAverage::Momentum(1.0));
            let norm = config.init(&plain());
            norm.forward(x.clone(), &Pass::train(0, 0));
            running(&norm).1[0].sqrt()
        });
        assert!((spreads[0] - 3.0).abs() < 0.05, "{spreads:?}");
        assert!((spreads[1] - 3.0).abs() < 0.05, "{spreads:?}");
        assert!((spreads[2] - 3.0).abs() < 0.6, "{spreads:?}");
    }

    #[test]
    fn mix_with_their_own_measure() {
        let x = random_of::<2>(1, [9, 2], &plain());
        for dispersion in ALL {
            let config = BatchNormConfig::new(2).with_dispersion(dispersion);
            let norm = config.init(&plain());
            let [found, expected] = [
                Pass::test().mix_statistics(0.0),
                Pass::train(0, 0).without_noise(),
            ]
            .map(|pass| values(norm.forward(x.clone(), &pass)));
            assert_near("batch alone", &found, &expected, 1e-5);
        }
    }

    #[test]
    fn of_replicas_is_the_deviation() {
        let [alone]: [Arc<dyn Replica>; 1] = in_process(1).try_into().expect("one replica");
        let config = BatchNormConfig::new(2).with_dispersion(Dispersion::Maximum);
        let text = message(|| {
            let pass = Pass::train(0, 0).replica(alone);
            config
                .init(&plain())
                .forward(Tensor::<2>::ones([3, 2], &plain()), &pass);
        });
        assert!(text.contains("Maximum"), "{text}");
    }
}

/// A part of the model is frozen by the pass of its scope; its neighbours go on.
#[test]
fn a_scope_can_be_frozen() {
    let (frozen, free) = (norm(&plain()), norm(&plain()));
    let before = running(&frozen);
    let x = Tensor::<2>::from_data(TensorData::from([[1.0, 2.0], [3.0, 5.0]]), &plain());
    let pass = Pass::train(0, 0);
    let x = frozen.forward(x, &pass.scope("backbone").freeze_statistics());
    free.forward(x, &pass.scope("head"));
    assert_eq!(running(&frozen), before);
    assert_ne!(running(&free), before);
}
