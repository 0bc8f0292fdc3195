/* LD_PRELOAD of a libvirt over a written /sys: what the kernel does when one of its files is written.
 *
 * A plain file keeps what is written and nothing happens; libvirt reads the `driver` link right after.
 * So this acts in the write itself, as the kernel does: `unbind` and `drivers_probe` move the links of
 * the function, `driver_override` decides between its native driver ($FAKE_NATIVE) and another. What
 * was written goes to $FAKE_LOG, a line each: WHAT ADDRESS DRIVER.
 *
 * And setting RLIMIT_MEMLOCK succeeds and does nothing: libvirt raises it for every VM with a
 * hostdev, and in a launcher pod virt-handler does that for it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PCI "/sys/bus/pci/"

static void note(const char *what, const char *address, const char *driver)
{
    char line[512];
    const char *log = getenv("FAKE_LOG");
    int fd = log ? open(log, O_WRONLY | O_APPEND) : -1;
    if (fd < 0) return;
    int size = snprintf(line, sizeof line, "%s %s %s\n", what, address, driver);
    syscall(SYS_write, fd, line, (size_t)size);
    close(fd);
}

/* The text of a file, or "", without a line feed at its end. */
static void read_text(const char *path, char *text, int size)
{
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, text, (size_t)size - 1);
    if (fd >= 0) close(fd);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\n")] = 0;
}

static int is_vfio(const char *driver)
{
    size_t n = strlen(driver);
    return n >= 8 && (!strcmp(driver + n - 8, "vfio-pci") || !strcmp(driver + n - 8, "vfio_pci"));
}

static void remove_vfio_dev(const char *address)
{
    char path[512];
    snprintf(path, sizeof path, PCI "devices/%s/vfio-dev", address);
    DIR *directory = opendir(path);
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
    closedir(directory);
    rmdir(path);
}

static void unbind(const char *address, const char *driver)
{
    char path[512];
    snprintf(path, sizeof path, PCI "drivers/%s/%s", driver, address);
    if (unlink(path)) return; /* bound to another one */
    snprintf(path, sizeof path, PCI "devices/%s/driver", address);
    unlink(path);
    remove_vfio_dev(address);
    note("unbind", address, driver);
}

static void probe(const char *address)
{
    char path[512], target[512], driver[128];
    snprintf(path, sizeof path, PCI "devices/%s/driver", address);
    if (!access(path, F_OK)) return; /* bound already: nothing to do */
    snprintf(path, sizeof path, PCI "devices/%s/driver_override", address);
    read_text(path, driver, sizeof driver);
    if (!*driver || !strcmp(driver, "(null)")) snprintf(driver, sizeof driver, "%s", getenv("FAKE_NATIVE"));
    snprintf(target, sizeof target, PCI "drivers/%s", driver);
    if (access(target, F_OK)) return; /* no such driver */
    snprintf(path, sizeof path, PCI "devices/%s/driver", address);
    symlink(target, path);
    snprintf(path, sizeof path, PCI "drivers/%s/%s", driver, address);
    snprintf(target, sizeof target, PCI "devices/%s", address);
    symlink(target, path);
    if (is_vfio(driver)) {
        snprintf(path, sizeof path, PCI "devices/%s/vfio-dev", address);
        mkdir(path, 0755);
        snprintf(path, sizeof path, PCI "devices/%s/vfio-dev/vfio0", address);
        mkdir(path, 0755);
    }
    note("bind", address, driver);
}

/* .../NAME/FILE: whether a path ends so, and NAME. */
static int ends_in(char *path, const char *file, char **name)
{
    char *last = strrchr(path, '/');
    if (!last || strcmp(last + 1, file)) return 0;
    *last = 0;
    *name = strrchr(path, '/') + 1;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*next)(int, const void *, size_t);
    char link[64], path[512], text[128], *name;
    if (!next) next = dlsym(RTLD_NEXT, "write");
    ssize_t done = next(fd, data, size);
    if (done <= 0 || done >= (ssize_t)sizeof text) return done;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, sizeof path - 1);
    if (got <= 0) return done;
    path[got] = 0;
    if (strncmp(path, "/sys/", 5)) return done;
    memcpy(text, data, (size_t)done);
    text[done] = 0;
    text[strcspn(text, "\n")] = 0;
    if (ends_in(path, "driver_override", &name)) note("override", name, text);
    else if (ends_in(path, "unbind", &name)) unbind(text, name);
    else if (ends_in(path, "drivers_probe", &name)) probe(text);
    return done;
}

int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *new, struct rlimit64 *old)
{
    if (resource == RLIMIT_MEMLOCK && new) return 0;
    return (int)syscall(SYS_prlimit64, pid, resource, new, old);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *new)
{
    return prlimit64(0, resource, new, NULL);
}
