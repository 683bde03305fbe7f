// The engine in one import, for programs that train from Swift.

@_exported import Adapters
@_exported import Autograd
@_exported import CPUBackend
@_exported import Formats
@_exported import Models
@_exported import Optimizers
@_exported import Quantization
@_exported import Ranks
@_exported import Tensors
@_exported import Tokenizers
@_exported import Training
