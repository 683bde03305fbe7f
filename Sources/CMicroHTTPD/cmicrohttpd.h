// libmicrohttpd is opened when something is served, so that a program that serves nothing starts without it and the
// dozen libraries it needs for TLS. Only its header is needed to build.
#pragma once
#include <arpa/inet.h>
#include <dlfcn.h>
#include <microhttpd.h>
#include <poll.h>
#include <string.h>

#ifndef POLLRDHUP // the headers have it for GNU programs only, of which Swift's Glibc module is none
#define POLLRDHUP 0x2000
#endif

/// What is called of the library. Swift does not call the variadic ones; the functions below do.
struct http_library {
  __typeof__(&MHD_start_daemon) start_daemon;
  __typeof__(&MHD_stop_daemon) stop_daemon;
  __typeof__(&MHD_get_daemon_info) daemon_info;
  __typeof__(&MHD_get_connection_info) connection_info;
  __typeof__(&MHD_lookup_connection_value) value;
  __typeof__(&MHD_suspend_connection) suspend;
  __typeof__(&MHD_resume_connection) resume;
  __typeof__(&MHD_queue_response) queue;
  __typeof__(&MHD_create_response_from_buffer) whole_response;
  __typeof__(&MHD_create_response_from_callback) read_response;
  __typeof__(&MHD_add_response_header) add_header;
  __typeof__(&MHD_destroy_response) destroy_response;
};

/// Opens the library; NULL, or the reason why it cannot be.
static inline const char *http_open(struct http_library *library) {
  void *handle = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return dlerror();
#define HTTP_FIND(field, name) \
  if (!(library->field = (__typeof__(library->field))dlsym(handle, #name))) return "it lacks " #name;
  HTTP_FIND(start_daemon, MHD_start_daemon)
  HTTP_FIND(stop_daemon, MHD_stop_daemon)
  HTTP_FIND(daemon_info, MHD_get_daemon_info)
  HTTP_FIND(connection_info, MHD_get_connection_info)
  HTTP_FIND(value, MHD_lookup_connection_value)
  HTTP_FIND(suspend, MHD_suspend_connection)
  HTTP_FIND(resume, MHD_resume_connection)
  HTTP_FIND(queue, MHD_queue_response)
  HTTP_FIND(whole_response, MHD_create_response_from_buffer)
  HTTP_FIND(read_response, MHD_create_response_from_callback)
  HTTP_FIND(add_header, MHD_add_response_header)
  HTTP_FIND(destroy_response, MHD_destroy_response)
#undef HTTP_FIND
  return NULL;
}

/// Starts a thread that answers connections to a numeric IPv4 address; NULL where the address or the port cannot be
/// had. `seconds`: how long a connection may stay silent that nobody suspended.
static inline struct MHD_Daemon *http_start(
    const struct http_library *library, const char *host, unsigned short port, unsigned int connections, unsigned int seconds,
    MHD_AccessHandlerCallback handler, MHD_RequestCompletedCallback completed, void *context) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return NULL;
  return library->start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, port, NULL, NULL, handler,
      context, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_NOTIFY_COMPLETED, completed, context,
      MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT, seconds,
      MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
}

/// The port that a daemon listens at; 0 where it is not known.
static inline int http_port(const struct http_library *library, struct MHD_Daemon *daemon) {
  const union MHD_DaemonInfo *info = library->daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
  return info ? info->port : 0;
}

/// Whether the client closed its side, or the connection broke.
static inline int http_is_gone(const struct http_library *library, struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = library->connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (!info) return 1;
  struct pollfd asked = {.fd = (int)info->connect_fd, .events = POLLRDHUP};
  return poll(&asked, 1, 0) > 0 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/// A header of a request; NULL where it has none.
static inline const char *http_header(
    const struct http_library *library, struct MHD_Connection *connection, const char *name) {
  return library->value(connection, MHD_HEADER_KIND, name);
}

/// What callbacks return.
static inline enum MHD_Result http_result(int goes_on) { return goes_on ? MHD_YES : MHD_NO; }
static inline int http_queue(
    const struct http_library *library, struct MHD_Connection *connection, unsigned int status,
    struct MHD_Response *response) {
  return library->queue(connection, status, response) == MHD_YES;
}

/// A response that keeps a copy of its body.
static inline struct MHD_Response *http_response(
    const struct http_library *library, const void *bytes, size_t count) {
  return library->whole_response(count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

/// What a reader returns at the end of a body.
static inline ssize_t http_end(void) { return MHD_CONTENT_READER_END_OF_STREAM; }
static inline uint64_t http_unknown_size(void) { return MHD_SIZE_UNKNOWN; }
