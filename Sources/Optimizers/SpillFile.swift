import Glibc
import Synchronization

func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

/// A temporary file for state that does not fit its budget. It has no name once open, so that nothing is left behind
/// whatever ends the process.
final class SpillFile: Sendable {
  /// The directory it was made in, for messages.
  let directory: String
  private let descriptor: Int32
  private let written = Atomic<Int>(0)
  private let read = Atomic<Int>(0)

  init(directory: String) throws(OptimizerError) {
    self.directory = directory
    var template = Array("\(directory)/optimizer-XXXXXX.page".utf8CString)
    let descriptor = mkstemps(&template, 5)
    guard descriptor >= 0 else { throw .spillFailed(path: directory, operation: "create", code: errno) }
    unlink(template)
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  var writtenByteCount: Int { written.load(ordering: .relaxed) }
  var readByteCount: Int { read.load(ordering: .relaxed) }

  func write(_ bytes: UnsafeRawPointer, _ byteCount: Int, at offset: Int) throws(OptimizerError) {
    var done = 0
    while done < byteCount {
      let count = pwrite(descriptor, bytes + done, byteCount - done, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        throw .spillFailed(path: directory, operation: "write", code: count == 0 ? ENOSPC : errno)
      }
      done += count
    }
    written.add(byteCount, ordering: .relaxed)
  }

  func read(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int, at offset: Int) throws(OptimizerError) {
    var done = 0
    while done < byteCount {
      let count = pread(descriptor, bytes + done, byteCount - done, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .spillFailed(path: directory, operation: "read", code: errno) }
      guard count > 0 else {
        throw .spillTruncated(path: directory, offset: offset, byteCount: byteCount, got: done)
      }
      done += count
    }
    read.add(byteCount, ordering: .relaxed)
  }
}

/// One thread that runs requests in order. It ends after the last request once this object is gone; requests keep alive
/// what they use, so nothing has to wait for it.
final class RequestThread: Sendable {
  private let worker = Worker()

  init() {
    var thread = pthread_t()
    let seat = Unmanaged.passRetained(worker)
    let status = pthread_create(
      &thread, nil,
      { raw in
        Unmanaged<Worker>.fromOpaque(raw!).takeRetainedValue().work()
        return nil
      }, seat.toOpaque())
    if status == 0 { pthread_detach(thread) } else { seat.release() }
  }

  deinit { worker.stop() }

  func submit(_ request: @escaping @Sendable () -> Void) { worker.submit(request) }
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
