import Tensors

extension Device {
  /// The processors of this machine.
  package static let cpu = Device(
    name: "cpu", open: { $0.map { CPUBackend(threadCount: $0) } ?? CPUBackend() },
    rehearse: { backend in
      let set = (backend as? CPUBackend)?.instructionSet ?? .selected
      return CPUBackend(threadCount: backend.threadCount, instructionSet: set, isRehearsal: true)
    })
}
