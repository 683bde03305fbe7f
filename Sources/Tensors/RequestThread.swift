import Glibc

/// One thread that runs requests in order, for files that are written and read beside the computation. It ends after
/// the last request once this object is gone; requests keep alive what they use, so nothing has to wait for it.
package final class RequestThread: Sendable {
  private let worker = Worker()

  /// - Throws: `noThread` with the system's error code.
  package init() throws(TensorError) {
    var thread = pthread_t()
    let seat = Unmanaged.passRetained(worker)
    let status = pthread_create(
      &thread, nil,
      { raw in
        guard let raw else { return nil }
        Unmanaged<Worker>.fromOpaque(raw).takeRetainedValue().work()
        return nil
      }, seat.toOpaque())
    guard status == 0 else {
      seat.release()
      throw .noThread(code: status)
    }
    pthread_detach(thread)
  }

  deinit { worker.stop() }

  package func submit(_ request: @escaping @Sendable () -> Void) { worker.submit(request) }

  /// A request whose end can be waited for.
  package func start(_ body: @escaping @Sendable () throws(TensorError) -> Void) -> PendingRequest {
    let pending = PendingRequest()
    worker.submit { pending.finish(Result(catching: body)) }
    return pending
  }
}

/// A request that a `RequestThread` has not finished, or has.
package final class PendingRequest: @unchecked Sendable {
  private let monitor = Monitor()
  private var result: Result<Void, TensorError>?

  fileprivate init() {}

  fileprivate func finish(_ result: Result<Void, TensorError>) {
    monitor.locked {
      self.result = result
      monitor.broadcast()
    }
  }

  /// Returns when the request is done, and throws what it threw.
  package func wait() throws(TensorError) {
    let ended = monitor.locked {
      while result == nil { monitor.wait() }
      return result
    }
    try ended?.get()
  }
}

private final class Worker: @unchecked Sendable {
  private let monitor = Monitor()
  private var queue: [@Sendable () -> Void] = []
  private var isStopping = false

  func submit(_ request: @escaping @Sendable () -> Void) {
    monitor.locked {
      queue.append(request)
      monitor.signal()
    }
  }

  func stop() {
    monitor.locked {
      isStopping = true
      monitor.signal()
    }
  }

  /// The next request; nil after the last.
  private func next() -> (@Sendable () -> Void)? {
    monitor.locked {
      while queue.isEmpty, !isStopping { monitor.wait() }
      return queue.isEmpty ? nil : queue.removeFirst()
    }
  }

  func work() { while let request = next() { request() } }
}
