// A network thread takes no signals: they belong to the program's main thread, and would interrupt socket calls.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace outlast::cluster {

// Throws std::system_error when there is no thread to be had.
template <class Body>
std::thread start_without_signals(Body body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread thread(std::move(body));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
}

}  // namespace outlast::cluster
