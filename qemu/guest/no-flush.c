/* no-flush PROGRAM...: runs a program whose flushes to the disk answer success and do nothing.
 * For the control of the power cuts: a campaign that does not notice this program proves nothing. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(SYS_sync_file_range)
#define RANGE SYS_sync_file_range
#else
#define RANGE SYS_sync_file_range2
#endif
/* an answer of errno 0 is success, without the call */
#define NOTHING(call)                              \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO)

int main(int argc, char **argv) {
  struct sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      NOTHING(SYS_fsync), NOTHING(SYS_fdatasync), NOTHING(RANGE),
      NOTHING(SYS_syncfs), NOTHING(SYS_sync),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
  if (argc < 2) return fprintf(stderr, "usage: no-flush PROGRAM...\n"), 2;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
    return perror("no-flush: the filter"), 1;
  execvp(argv[1], argv + 1);
  return perror("no-flush: the program"), 1;
}
