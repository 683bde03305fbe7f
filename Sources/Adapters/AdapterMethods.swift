import Models
import Synchronization

/// The methods whose adapters can be read from PEFT's files, by `peft_type`.
public enum AdapterMethods {
  private static let rows = Mutex<[any AdapterMethod.Type]>([
    LoRA.self, IA3.self, VeRA.self, TrainedTokens.self, Scripted.self,
  ])

  /// Adds a method; one of the same `peftType` is replaced.
  public static func register(_ method: any AdapterMethod.Type) {
    rows.withLock { rows in
      rows.removeAll { $0.peftType == method.peftType }
      rows.append(method)
    }
  }

  /// The method of a `peft_type`, nil for an unknown one.
  public static func named(_ peftType: String) -> (any AdapterMethod.Type)? {
    rows.withLock { rows in rows.first { $0.peftType == peftType } }
  }

  /// The `peft_type` of every registered method, in the order of registration.
  public static var names: [String] { rows.withLock { $0.map { $0.peftType } } }
}
