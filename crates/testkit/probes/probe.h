/* What the attempts are made of. All of it is compiled with _GNU_SOURCE. */
#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct attempt {
    const char *name;
    /* Gets the words after the attempt's name. */
    void (*run)(int argc, char **argv);
};

/* Each theme's attempts, ended by one without a name. */
extern const struct attempt file_attempts[], process_attempts[], mount_attempts[],
    namespace_attempts[], tree_attempts[], kernel_attempts[], abi_attempts[],
    descriptor_attempts[], terminal_attempts[], network_attempts[], full_network_attempts[],
    identity_attempts[], exhaustion_attempts[], launcher_attempts[], host_roles[];

/* The attempt got something that it must not get. */
void got(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The attempt was refused something, in the kernel's words. */
void told(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Takes the result of a system call that a wall must refuse with EPERM, EACCES or ENOSYS. Any
 * other error means that the call went past the wall and only its arguments were at fault. */
void denied(long result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, where these errors (ended by 0) say too that there is nothing to be had. */
void denied_or(long result, const int *errors, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What the look-up of a path says where there is nothing, or nothing for us. */
extern const int absent[];

/* What the kernel says of a process that is not in this pid namespace. */
extern const int nobody[];

/* Ends the probe: this machine can't do what the attempt is about. */
_Noreturn void skip(const char *why);

/* Ends the probe: a step that only leads up to the attempt failed, so that it proves nothing. */
_Noreturn void stuck(const char *step);

/* Says a line to whoever started the probe, at once. */
void say(const char *line);

/* Waits for a line from whoever started the probe. */
void await_line(void);

/* Makes a folder for the attempt's own files and returns its path. */
char *make_folder(void);

/* `folder/name`, in memory that is never freed. */
char *path_in(const char *folder, const char *name);

/* Runs `part` in a child and returns what waitpid says of its end. */
int in_child(void (*part)(void *), void *argument);

#define COUNT(array) (sizeof(array) / sizeof *(array))

#endif
