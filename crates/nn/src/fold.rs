//! Folding a batch norm into the layer before it, for deployment.
//!
//! At test a batch norm is an affine map per channel, y = s·x + t with s = γ/√(σ² + ε) and
//! t = β − s·μ, and the convolution or linear layer before it is linear: together they are one such
//! layer with the weights s·W and the bias s·b + t. It computes the same but for rounding, in one pass
//! less over memory.

use std::fmt;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData};

use crate::host::numbers;
use crate::{BatchNorm, Conv2d, Norm};

/// How far a folded layer's output, before the activation, can be from the two layers' own, in `f32`.
///
/// Of inputs of at most m in absolute value: slope·m + constant. With u = 2⁻²⁴ the unit roundoff and K
/// the terms of a channel's sum, and to first order in u: the two layers sum K terms, take away μ,
/// multiply by a scale that is four roundings off, and add β; the folded one rounds each weight and the
/// bias once, sums and adds. Together they differ by at most
///
/// ```text
/// u·(2K + 10)·|s|·Σ|W|·m + 10u·(|s·b| + |s·μ| + |β|)
/// ```
///
/// in each channel, and by this for the worst.
///
/// Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1, for the sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoldingError {
    /// Times the largest input.
    pub slope: f64,
    /// For any input.
    pub constant: f64,
}

impl FoldingError {
    /// For inputs of at most this much in absolute value.
    pub fn of(self, largest_input: f64) -> f64 {
        self.slope * largest_input + self.constant
    }

    /// For the outputs of two channels alike.
    fn worse(self, other: Self) -> Self {
        Self {
            slope: self.slope.max(other.slope),
            constant: self.constant.max(other.constant),
        }
    }
}

impl fmt::Display for FoldingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {:.1e}·|x| + {:.1e}", self.slope, self.constant)
    }
}

/// Why a norm was not folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFoldable {
    /// There is none: it was folded before, or the block was built without.
    NoNorm,
    /// Its statistics depend on the example, so it is no fixed map.
    DependsOnTheExample {
        /// Such as `group norm`.
        norm: &'static str,
    },
    /// The layer before has another number of channels than the norm: it is not the norm's input.
    OtherChannels {
        /// Of the layer.
        layer: usize,
        /// Of the norm.
        norm: usize,
    },
}

impl fmt::Display for NotFoldable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNorm => f.write_str(
                "there is no batch norm to fold: it has been folded already, or the model was built \
                 without",
            ),
            Self::DependsOnTheExample { norm } => write!(
                f,
                "a {norm} normalizes each example by its own statistics, which no weights can do: only \
                 batch norms can be folded"
            ),
            Self::OtherChannels { layer, norm } => write!(
                f,
                "the layer has {layer} output channels and the norm {norm}: the norm does not follow it"
            ),
        }
    }
}

impl std::error::Error for NotFoldable {}

/// A model whose batch norms can be folded into the layers before them.
///
/// Burn has no graph of a model's layers, so each model says which norm directly follows which layer. A
/// norm before its convolution, or one with something between the two, must not be folded.
pub trait Fold: Sized {
    /// The folded model: for test, since the running statistics have become constants.
    ///
    /// # Errors
    /// The first norm that cannot be folded.
    fn fold(self) -> Result<Folded<Self>, Refused>;
}

/// A model without its batch norms.
#[derive(Clone, Debug)]
pub struct Folded<M> {
    /// The model.
    pub model: M,
    /// What each norm's folding costs in precision, and the norm's path.
    pub errors: Vec<(String, FoldingError)>,
}

impl<M> Folded<M> {
    /// The same of the model that holds this one.
    pub fn map<N>(self, into: impl FnOnce(M) -> N) -> Folded<N> {
        Folded {
            model: into(self.model),
            errors: self.errors,
        }
    }
}

/// A norm that cannot be folded, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it is in the model, or should be.
    pub path: String,
    /// Why.
    pub reason: NotFoldable,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for Refused {}

/// The batch norm of a block, and whether it may be folded.
///
/// # Errors
/// If there is none.
pub fn foldable(norm: Option<&Norm>) -> Result<&BatchNorm, NotFoldable> {
    let norm = match norm.ok_or(NotFoldable::NoNorm)? {
        Norm::Batch(norm) => return Ok(norm),
        Norm::Group(_) => "group norm",
        Norm::Layer(_) => "layer norm",
        Norm::Instance(_) => "instance norm",
    };
    Err(NotFoldable::DependsOnTheExample { norm })
}

/// The convolution that computes what this convolution followed by this norm does at test, but for the
/// norm's activation, which is to be applied to its output.
///
/// # Errors
/// If their channels differ.
pub fn fold_conv2d(conv: &Conv2d, norm: &BatchNorm) -> Result<(Conv2d, FoldingError), NotFoldable> {
    let weight = conv.effective_weight();
    let shape = weight.dims();
    let channels = Channels::new(norm, shape[0], conv.bias.as_ref())?;
    let terms = weight.shape().num_elements() / shape[0];
    let weights = numbers(weight);
    let (weights, error) = channels.fold(&weights, |channel| (channel * terms..).take(terms));
    let mut folded = conv.clone();
    folded.standardize = false;
    folded.weight = replaced(&conv.weight, &weights);
    folded.bias = Some(channels.bias(&conv.weight.val()));
    Ok((folded, error))
}

/// The linear layer that computes what this one followed by this norm does at test, but for the norm's
/// activation, which is to be applied to its output.
///
/// # Errors
/// If their channels differ.
pub fn fold_linear(
    linear: &Linear,
    norm: &BatchNorm,
) -> Result<(Linear, FoldingError), NotFoldable> {
    let weight = linear.weight.val();
    let [inputs, outputs] = weight.dims();
    let channels = Channels::new(norm, outputs, linear.bias.as_ref())?;
    let weights = numbers(weight);
    // Burn stores `[in, out]`.
    let column = |channel: usize| (channel..).step_by(outputs).take(inputs);
    let (weights, error) = channels.fold(&weights, column);
    let mut folded = linear.clone();
    folded.weight = replaced(&linear.weight, &weights);
    folded.bias = Some(channels.bias(&linear.weight.val()));
    Ok((folded, error))
}

/// Each channel's affine map at test, in `f64`.
struct Channels {
    scale: Vec<f64>,
    bias: Vec<f64>,
    /// |s·b| + |s·μ| + |β|.
    size: Vec<f64>,
}

impl Channels {
    fn new(
        norm: &BatchNorm,
        layer: usize,
        bias: Option<&Param<Tensor<1>>>,
    ) -> Result<Self, NotFoldable> {
        let channels = norm.num_features();
        if layer != channels {
            let norm = channels;
            return Err(NotFoldable::OtherChannels { layer, norm });
        }
        let or = |parameter: Option<&Param<Tensor<1>>>, value: f64| match parameter {
            Some(parameter) => numbers(parameter.val()),
            None => vec![value; channels],
        };
        let (gamma, beta) = (or(norm.weight.as_ref(), 1.0), or(norm.bias.as_ref(), 0.0));
        let bias = or(bias, 0.0);
        let (mean, variance) = norm.running_statistics();
        let scale: Vec<f64> = std::iter::zip(gamma, variance)
            .map(|(gamma, variance)| gamma / (variance + norm.epsilon()).sqrt())
            .collect();
        let shifted = |c: usize| scale[c] * (bias[c] - mean[c]) + beta[c];
        let size =
            |c: usize| (scale[c] * bias[c]).abs() + (scale[c] * mean[c]).abs() + beta[c].abs();
        Ok(Self {
            bias: (0..channels).map(shifted).collect(),
            size: (0..channels).map(size).collect(),
            scale,
        })
    }

    /// The weights times the scale of their channel, whose places are `places(channel)`.
    fn fold<I: Iterator<Item = usize>>(
        &self,
        weights: &[f64],
        places: impl Fn(usize) -> I,
    ) -> (Vec<f64>, FoldingError) {
        let unit = 2.0_f64.powi(-24);
        let mut folded = vec![0.0; weights.len()];
        let mut error = FoldingError {
            slope: 0.0,
            constant: 0.0,
        };
        for (channel, &scale) in self.scale.iter().enumerate() {
            let (mut sum, mut terms) = (0.0, 0.0);
            for place in places(channel) {
                folded[place] = weights[place] * scale;
                sum += folded[place].abs();
                terms += 1.0;
            }
            error = error.worse(FoldingError {
                slope: unit * (2.0 * terms + 10.0) * sum,
                constant: unit * 10.0 * self.size[channel],
            });
        }
        (folded, error)
    }

    fn bias<const D: usize>(&self, like: &Tensor<D>) -> Param<Tensor<1>> {
        let options = (&like.device(), like.dtype());
        Param::from_tensor(Tensor::from_data(self.bias.as_slice(), options))
    }
}

/// The parameter with these values, its id and whether it is trained as they were.
fn replaced<const D: usize>(parameter: &Param<Tensor<D>>, values: &[f64]) -> Param<Tensor<D>> {
    parameter.clone().map(|old| {
        let data = TensorData::new(values.to_vec(), old.shape());
        let new = Tensor::from_data(data, (&old.device(), old.dtype()));
        new.set_require_grad(old.is_require_grad())
    })
}
