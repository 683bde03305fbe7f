import Autograd
import Glibc

func naturalLogarithm(_ x: Double) -> Double { log(x) }
func exponential(_ x: Double) -> Double { exp(x) }

/// For factorisations of adapters and of what they start from.
typealias DenseMatrix = Autograd.DenseMatrix
