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
  private var mutex = pthread_mutex_t()
  private var condition = pthread_cond_t()
  private var result: Result<Void, TensorError>?

  fileprivate init() {
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&condition, nil)
  }

  deinit {
    pthread_cond_destroy(&condition)
    pthread_mutex_destroy(&mutex)
  }

  fileprivate func finish(_ result: Result<Void, TensorError>) {
    pthread_mutex_lock(&mutex)
    self.result = result
    pthread_cond_broadcast(&condition)
    pthread_mutex_unlock(&mutex)
  }

  /// Returns when the request is done, and throws what it threw.
  package func wait() throws(TensorError) {
    pthread_mutex_lock(&mutex)
    while result == nil { pthread_cond_wait(&condition, &mutex) }
    let result = result
    pthread_mutex_unlock(&mutex)
    try result?.get()
  }
}

private final class Worker: @unchecked Sendable {
  private var mutex = pthread_mutex_t()
  private var condition = pthread_cond_t()
  private var queue: [@Sendable () -> Void] = []
  private var isStopping = false

  init() {
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&condition, nil)
  }

  deinit {
    pthread_cond_destroy(&condition)
    pthread_mutex_destroy(&mutex)
  }

  func submit(_ request: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(&mutex)
    queue.append(request)
    pthread_cond_signal(&condition)
    pthread_mutex_unlock(&mutex)
  }

  func stop() {
    pthread_mutex_lock(&mutex)
    isStopping = true
    pthread_cond_signal(&condition)
    pthread_mutex_unlock(&mutex)
  }

  func work() {
    while true {
      pthread_mutex_lock(&mutex)
      while queue.isEmpty, !isStopping { pthread_cond_wait(&condition, &mutex) }
      guard !queue.isEmpty else {
        pthread_mutex_unlock(&mutex)
        return
      }
      let request = queue.removeFirst()
      pthread_mutex_unlock(&mutex)
      request()
    }
  }
}
