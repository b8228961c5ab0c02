/* A program on a terminal of its own, as forkpty(3) makes it. */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "bench.h"

#include <pty.h>
#include <termios.h>

static inline pid_t on_a_terminal(char *const argv[], int echo, int *terminal)
{
    struct winsize size = {24, 80, 0, 0};
    pid_t pid = forkpty(terminal, NULL, NULL, &size);
    if (pid < 0)
        die("forkpty");
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    struct termios modes;
    if (!echo && !tcgetattr(*terminal, &modes)) {
        modes.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(*terminal, TCSANOW, &modes);
    }
    return pid;
}

#endif
