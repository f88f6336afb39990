//! State of a layer that is saved with the model but not trained: running statistics.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param, ParamId,
};
use burn::tensor::kind::{Autodiff, Basic};
use burn::tensor::{Device, Float, Int, Tensor};

/// One tensor of state, written during a forward through `&self`.
///
/// Unlike Burn's `RunningState`, `clone` copies the state (two clones never share it), a written
/// value is there at once (a record taken during training lags behind nothing), and nothing
/// pending can overwrite a value that was loaded. It is saved, loaded and mapped under its field's
/// name like a parameter, but never trained: `unfreeze()` and `set_require_grad` leave it alone.
///
/// The value is kept off the autodiff graph, whatever device the module is on: Burn's `valid()` and
/// `train()` copy it as it is, `fork()` and `to_device()` move it. After `valid()` the copy goes its
/// own way, as any clone does: to go on training, keep the original.
pub struct Buffer<K: Basic> {
    id: ParamId,
    value: Mutex<Tensor<1, K>>,
}

impl<K: Basic + Autodiff> Buffer<K> {
    /// A buffer that holds `value`.
    pub fn new(value: Tensor<1, K>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<1, K>) -> Self {
        Self {
            id,
            value: Mutex::new(value.without_autodiff()),
        }
    }

    /// The number of the state, the same in clones.
    pub(crate) fn id(&self) -> ParamId {
        self.id
    }

    /// The value, on `device`: a constant to every gradient.
    pub fn get(&self, device: &Device) -> Tensor<1, K> {
        self.value().clone().to_device(device)
    }

    /// Where the value is, without autodiff.
    pub(crate) fn device(&self) -> Device {
        self.value().device()
    }

    /// Replaces the value.
    pub fn set(&self, value: Tensor<1, K>) {
        *self.value() = value.without_autodiff();
    }

    /// A poisoned lock only says that another forward panicked; a tensor is replaced whole, so
    /// the value is good either way.
    fn value(&self) -> MutexGuard<'_, Tensor<1, K>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Basic + Autodiff> Clone for Buffer<K> {
    fn clone(&self) -> Self {
        Self::with_id(self.id, self.value().clone())
    }
}

impl<K: Basic + Autodiff> fmt::Debug for Buffer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<K: Basic + Autodiff> fmt::Display for Buffer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer{:?}", self.value().dims())
    }
}

impl<K: Basic + Autodiff> ModuleDisplayDefault for Buffer<K> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl<K: Basic + Autodiff> ModuleDisplay for Buffer<K> {}

/// Burn visits each kind of tensor by a method of its own.
macro_rules! impl_module {
    ($kind:ty, $visit:ident, $map:ident) => {
        impl Module for Buffer<$kind> {
            fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
                visitor.$visit(&Param::initialized(self.id, self.value().clone()));
            }

            fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
                let value = self.value().clone();
                let (id, value, _) = mapper.$map(Param::initialized(self.id, value)).consume();
                Self::with_id(id, value)
            }

            fn to_device(self, device: &Device) -> Self {
                Self::with_id(self.id, self.get(device))
            }

            fn fork(self, device: &Device) -> Self {
                self.to_device(device)
            }

            fn collect_devices(&self, mut devices: Devices) -> Devices {
                let device = self.value().device();
                if !devices.contains(&device) {
                    devices.push(device);
                }
                devices
            }

            fn materialize(self) -> Self {
                self
            }

            fn valid(&self) -> Self {
                self.clone()
            }

            fn train(self) -> Self {
                self
            }
        }
    };
}

impl_module!(Float, visit_float, map_float);
impl_module!(Int, visit_int, map_int);
