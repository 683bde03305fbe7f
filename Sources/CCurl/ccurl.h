// What is used of libcurl's interface (curl/curl.h, curl/multi.h), which is stable for libcurl.so.4. The library is
// opened when something is fetched, so that a program that fetches nothing starts without it and the twenty libraries
// it needs, and none of them has to be there to build or to train.
#pragma once

/// Options of a request; the thousands say what kind of value they take.
enum curl_option {
  CURL_OPTION_WRITE_DATA = 10001,
  CURL_OPTION_URL = 10002,
  CURL_OPTION_USER_AGENT = 10018,
  CURL_OPTION_LOW_SPEED_LIMIT = 19,
  CURL_OPTION_LOW_SPEED_TIME = 20,
  CURL_OPTION_HEADERS = 10023,
  CURL_OPTION_HEADER_DATA = 10029,
  CURL_OPTION_NO_BODY = 44,
  CURL_OPTION_CA_FILE = 10065,
  CURL_OPTION_CONNECT_TIMEOUT = 78,
  CURL_OPTION_HTTP_VERSION = 84,
  CURL_OPTION_NO_SIGNAL = 99,
  CURL_OPTION_PROTOCOLS = 181,
  CURL_OPTION_WRITE_FUNCTION = 20011,
  CURL_OPTION_HEADER_FUNCTION = 20079,
  CURL_OPTION_SUPPRESS_CONNECT_HEADERS = 265,
};

/// What is asked of a request that ended.
enum curl_info {
  CURL_INFO_STATUS = 0x200002,
  CURL_INFO_REDIRECT_URL = 0x10001F,
};

/// CURLMsg: `kind` is 1 for a request that ended with `result`.
struct curl_message {
  int kind;
  void *easy;
  union {
    void *unused;
    int result;
  } data;
};

/// curl_easy_setopt and curl_easy_getinfo take any number of arguments, which Swift cannot call.
static inline int curl_set_number(void *setopt, void *easy, int option, long value) {
  return ((int (*)(void *, int, ...))setopt)(easy, option, value);
}
static inline int curl_set_pointer(void *setopt, void *easy, int option, const void *value) {
  return ((int (*)(void *, int, ...))setopt)(easy, option, value);
}
static inline int curl_get_number(void *getinfo, void *easy, int info, long *value) {
  return ((int (*)(void *, int, ...))getinfo)(easy, info, value);
}
static inline int curl_get_text(void *getinfo, void *easy, int info, char **value) {
  return ((int (*)(void *, int, ...))getinfo)(easy, info, value);
}
