//! A norm chosen at run time: what it is in paths, records and on other devices, and changing it.

mod support;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Int, Tensor};
use evenkeel_nn::{
    Activation, BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Norm,
    NormKind, Norms, Pass, initialize, replace_batch_norms,
};
use support::layers::autodiff;
use support::{plain, random_of, values};

const KINDS: [NormKind; 4] = [
    NormKind::Batch,
    NormKind::Group(2),
    NormKind::Layer,
    NormKind::Instance,
];

#[derive(Module, Debug)]
struct Net {
    first: Norm,
    second: Option<Norm>,
}

impl Net {
    fn new(kind: NormKind, device: &Device) -> Self {
        let norm = |channels| kind.init(channels, Activation::Relu, device);
        Self {
            first: norm(4).expect("a norm"),
            second: norm(6),
        }
    }
}

impl Norms for Net {
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm)) {
        visit("first", &mut self.first);
        if let Some(norm) = &mut self.second {
            visit("second", norm);
        }
    }
}

#[derive(Default)]
struct Paths {
    entered: Vec<String>,
    found: Vec<(String, ParamId)>,
}

impl Paths {
    fn of(module: &impl Module) -> Vec<(String, ParamId)> {
        let mut paths = Self::default();
        module.visit(&mut paths);
        paths.found
    }

    fn add(&mut self, id: ParamId) {
        self.found.push((self.entered.join("."), id));
    }
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.entered.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.entered.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.id);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.id);
    }
}

fn names(module: &impl Module) -> Vec<String> {
    Paths::of(module)
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn it_is_the_norm_that_it_holds() {
    let x = random_of::<4>(1, [3, 4, 5, 6], &plain());
    let relu = Activation::Relu;
    let pass = || Pass::train(0, 0);
    let alone = [
        BatchNormConfig::new(4)
            .with_activation(relu)
            .init(&plain())
            .forward(x.clone(), &pass()),
        GroupNormConfig::new(2, 4)
            .with_activation(relu)
            .init(&plain())
            .forward(x.clone(), &pass()),
        LayerNormConfig::new(4)
            .with_channels_first(true)
            .with_activation(relu)
            .init(&plain())
            .forward(x.clone(), &pass()),
        InstanceNormConfig::new(4)
            .with_affine(true)
            .with_activation(relu)
            .init(&plain())
            .forward(x.clone(), &pass()),
    ];
    for (kind, alone) in KINDS.into_iter().zip(alone) {
        let norm = kind.init(4, relu, &plain()).expect("a norm");
        let found = norm.forward(x.clone(), &pass());
        assert_eq!(values(found), values(alone), "{kind:?}");
        assert!(format!("{norm}").contains("Norm"), "{norm}");
    }
    assert!(NormKind::None.init(4, relu, &plain()).is_none());
}

#[test]
fn paths_have_no_variant_in_them() {
    let found = names(&Net::new(NormKind::Batch, &plain()));
    let fields = [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ];
    let expected = ["first", "second"].iter().flat_map(|norm| {
        let fields = fields.iter();
        fields.map(move |field| format!("{norm}.{field}"))
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
    for kind in &KINDS[1..] {
        let found = names(&Net::new(*kind, &plain()));
        let expected = ["first.weight", "first.bias", "second.weight", "second.bias"];
        assert_eq!(found, expected, "{kind:?}");
    }
}

#[test]
fn records_devices_and_modes_pass_through() {
    for kind in KINDS {
        let trained = Net::new(kind, &autodiff());
        let x = random_of::<4>(1, [3, 4, 5, 6], &autodiff());
        trained.first.forward(x.clone(), &Pass::train(0, 0));
        let fresh = Net::new(kind, &autodiff()).load_record(trained.clone().into_record());
        let plain_one = trained.valid();
        let on = |net: &Net, x: Tensor<4>| values(net.first.forward(x, &Pass::test()));
        let expected = on(&trained, x.clone());
        assert_eq!(on(&fresh, x.clone()), expected, "{kind:?}");
        let x = Tensor::from_data(x.into_data(), &plain());
        assert_eq!(on(&plain_one, x), expected, "{kind:?}");
        assert_eq!(plain_one.collect_devices(Vec::new()), [plain()]);
        assert_eq!(trained.num_params(), fresh.num_params());
    }
}

#[test]
fn batch_norms_become_group_norms_with_their_parameters() {
    let mut net = initialize(Net::new(NormKind::Batch, &autodiff()), 3);
    net.first.forward(
        random_of::<3>(1, [3, 4, 5], &autodiff()),
        &Pass::train(0, 0),
    );
    let weight = random_of::<1>(2, [4], &autodiff());
    if let Norm::Batch(norm) = &mut net.first {
        let learned = norm.weight.take().expect("affine");
        norm.weight = Some(learned.map(|_| weight.clone().require_grad()));
    }
    let before = Paths::of(&net);
    assert_eq!(
        replace_batch_norms(&mut net, |channels| channels / 2),
        Ok(2)
    );
    let kept = before
        .into_iter()
        .filter(|(path, _)| path.ends_with("weight") || path.ends_with("bias"));
    assert_eq!(Paths::of(&net), kept.collect::<Vec<_>>());

    let x = random_of::<3>(4, [3, 4, 5], &autodiff());
    let config = GroupNormConfig::new(2, 4).with_activation(Activation::Relu);
    let mut expected = config.init(&autodiff());
    let learned = expected.weight.take().expect("affine");
    expected.weight = Some(learned.map(|_| weight.require_grad()));
    assert_eq!(
        values(net.first.forward(x.clone(), &Pass::train(0, 0))),
        values(expected.forward(x, &Pass::train(0, 0)))
    );
    assert_eq!(replace_batch_norms(&mut net, |_| 1), Ok(0), "none is left");
}

#[test]
fn groups_that_fit_not_all_replace_none() {
    let mut net = Net::new(NormKind::Batch, &plain());
    let before = names(&net);
    let error = replace_batch_norms(&mut net, |_| 4).expect_err("4 does not divide 6");
    assert!(
        error.contains("second: ") && error.contains("4 groups of 6"),
        "{error}"
    );
    assert_eq!(names(&net), before);
}

#[test]
fn kinds_are_written_as_in_recipes() {
    for (kind, text) in [
        (NormKind::Batch, r#""batch""#),
        (NormKind::Group(8), r#"{"group":8}"#),
        (NormKind::None, r#""none""#),
    ] {
        assert_eq!(serde_json::to_string(&kind).expect("text"), text);
        assert_eq!(
            serde_json::from_str::<NormKind>(text).expect("a kind"),
            kind
        );
    }
}

#[test]
fn a_model_of_norms_can_be_printed() {
    for kind in KINDS {
        let text = Net::new(kind, &plain()).to_string();
        assert!(
            text.contains("activation: Relu") && text.contains("params"),
            "{text}"
        );
    }
    let rms = evenkeel_nn::RmsNormConfig::new(3)
        .init(&plain())
        .to_string();
    assert!(rms.contains("num_features: 3"), "{rms}");
}
