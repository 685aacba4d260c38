/* System calls that fail: a seccomp filter for the calling thread and those that it starts. */
#ifndef DENY_H
#define DENY_H

#include "help.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/resource.h>

/* From now on these calls fail with `error` in this thread. False where seccomp is not to be had. */
static inline bool deny(const int *numbers, size_t count, int error)
{
    struct sock_filter program[2 * 16 + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short length = 1;

    require(count <= 16);
    for (size_t i = 0; i < count; i++) {
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], 0, 1);
        program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error);
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = length, .filter = program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* Bytes of address space that the process has: what RLIMIT_AS limits. */
static inline rlim_t mapped(void)
{
    char line[64] = "";
    int fd = must(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));

    must(read(fd, line, sizeof line - 1));
    must(close(fd));
    return strtoul(line, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* How many descriptors the process has open, whosever they are. Needs a free number. */
static inline int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = -3; /* ".", "..", and the directory itself */

    require(directory);
    while (readdir(directory))
        count++;
    must(closedir(directory));
    return count;
}

#endif
