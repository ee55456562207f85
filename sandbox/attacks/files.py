"""Files: read the host's, wherever they might shine through, and write what is not the jail's own."""

# %% host-file: the canary by its path
show(target["file"])

# %% host-file-by-parents: climb out of the root by more parents than there are folders
show("../" * 64 + target["file"].lstrip("/"))
show("/tmp/" + "../" * 64 + target["file"].lstrip("/"))

# %% host-file-by-a-folder-descriptor: open the root, then climb relative to its descriptor
root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
for path in ("../" * 16 + target["file"].lstrip("/"), ".."):
    try:
        number = os.open(path, os.O_RDONLY, dir_fd=root)
        print(path, os.listdir(number) if stat.S_ISDIR(os.fstat(number).st_mode) else os.read(number, 1 << 15))
    except OSError as error:
        print(path, name_of(error))

# %% host-file-by-changing-folder: chdir and fchdir as far up as they go, then look around
for _ in range(64):
    os.chdir("..")
os.fchdir(os.open(".", os.O_RDONLY))
print(os.getcwd(), os.listdir("."))
show(target["file"].lstrip("/"))

# %% host-file-by-a-path-descriptor: O_PATH opens what may not be read
must_fail("O_PATH", os.open, target["file"], os.O_PATH)
must_fail("O_PATH of its folder", os.open, os.path.dirname(target["file"]), os.O_PATH | os.O_DIRECTORY)

# %% host-file-by-a-link: a symbolic link to the canary, and to the folder of it
os.symlink(target["file"], "/tmp/link")
os.symlink(os.path.dirname(target["file"]), "/tmp/folder")
show("/tmp/link")
show("/tmp/folder")

# %% host-file-by-a-hard-link: link the canary into our folder
must_fail("link", os.link, target["file"], "/tmp/hard")

# %% host-file-by-renaming: move it here
must_fail("rename", os.rename, target["file"], "/tmp/moved")
must_fail("exchange", os.rename, os.path.dirname(target["file"]), "/tmp/folder")

# %% host-file-by-handle: a handle needs no path
must_refuse("name_to_handle_at", 303, -100, b"/", bytes(256), bytes(8), 0)

# %% host-file-opened-by-handle: guess handles of inodes of the host's root
must_refuse("open_by_handle_at", 304, 3, struct.pack("iiQ", 8, 1, 2), 0)

# %% host-file-by-openat2: resolve flags of a newer call
must_refuse("openat2", 437, -100, target["file"].encode() + b"\0", bytes(24), 24)

# %% host-file-by-open-tree: clone the host's mounts
must_refuse("open_tree", 428, -100, b"/\0", 1)

# %% host-shared-memory: what lies in /dev/shm is a file of the host too
show(target["shm"])
show("/dev/shm")

# %% passwords: the classic targets
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/resolv.conf", "/root/.ssh", "/home", "/root"):
    show(path)

# %% cloud-and-container: what tells where we are, or how to leave
for path in ("/.dockerenv", "/run/secrets", "/var/run/docker.sock", "/var/run/secrets/kubernetes.io", "/run"):
    show(path)

# %% weights-and-cache: the user's own folders
for path in ("~/.cache", "~/.local/share", "~/.config", "~root", "~/.bash_history", "~/.netrc", "~/.pgpass"):
    show(os.path.expanduser(path))

# %% system-folders: everything that is bound on other systems
for path in ("/usr", "/bin", "/sbin", "/var", "/opt", "/srv", "/mnt", "/media", "/boot", "/sys", "/proc"):
    must_fail(path, os.listdir, path)

# %% whole-tree: read every file that can be found, and let the oracle look at all of it
count = 0
for folder, names, files in os.walk("/"):
    if folder.startswith(LIBRARY):
        names.clear()
    for name in files:
        count += 1
        if not folder.startswith(("/lib", "/python", "/dev")):
            with open(os.path.join(folder, name), "rb") as file:
                print(folder, name, file.read(4096)[:300])
print(count)

# %% installed-packages: what lies beside the interpreter
import importlib.metadata
found = [name for place in ("site-packages", "dist-packages") if os.path.isdir(LIBRARY + "/" + place)
         for name in os.listdir(LIBRARY + "/" + place)]
found += [one.name for one in importlib.metadata.distributions() if one.name not in target["packages"]]
pwn(found) if found else print("nothing")

# %% compiled-paths: the folder names that compiled files keep
import importlib.util
source = importlib.util.cache_from_source(os.__file__)
show(source)
print({code.co_filename for code in (show.__code__, os.walk.__code__, sys.modules["__main__"].llm_query.__code__)})

# %% deleted-folder: files under a folder that was removed while we stood in it
os.mkdir("/tmp/gone")
os.chdir("/tmp/gone")
os.rmdir("/tmp/gone")
show("..")
show("../.." + target["file"])
os.chdir("/tmp")

# %% under-the-mounts: what the root and mount points hide
for path in ("/python", "/lib64", "/worker", "/dev", "/lib"):
    must_fail("remove " + path, os.rmdir, path)
    must_fail("rename " + path, os.rename, path, "/tmp/x")

# %% null-in-path: a path that two readers end at different places
try:
    open("/tmp/ok\0" + target["file"])
    pwn("opened")
except ValueError as error:
    print(error)
must_refuse("openat", 257, -100, b"/tmp/ok\0" + target["file"].encode() + b"\0", 0)

# %% write-the-library: the interpreter that the next jail will run
for path in (os.__file__, LIBRARY + "/new.py", LIBRARY + "/__pycache__/os.pyc", sys.executable, "/lib/libc.so.6"):
    must_fail(path, open, path, "ab")

# %% write-the-worker: the code that guards us
for path in ("/worker/__main__.py", "/worker/sandbox/worker/stage2.py", "/worker/new.py"):
    must_fail(path, open, path, "r+b")
    must_fail("remove " + path, os.remove, path)

# %% write-the-root: a new file wherever a folder is
for folder in ("/", "/dev", "/lib", "/lib64", "/python", "/python/lib", "/worker"):
    must_fail(folder, open, folder + "/new", "w")
    must_fail("mkdir " + folder, os.mkdir, folder + "/new")
    must_fail("symlink " + folder, os.symlink, "/tmp", folder + "/link")

# %% write-the-drop: the one folder of the host that everybody may write to
must_fail("drop", open, target["drop"] + "/written", "w")
must_fail("mkdir", os.mkdir, target["drop"] + "/made")

# %% write-by-mapping: change a page of a library that others have mapped
must_fail("mapping", lambda: mmap.mmap(os.open("/lib/libc.so.6", os.O_RDONLY), 4096, mmap.MAP_SHARED, 3))
number = os.open("/lib/libc.so.6", os.O_RDONLY)
must_refuse("mmap", 9, 0, 4096, 3, 1, number, 0)
page = call(9, 0, 4096, 1, 1, number, 0)
must_refuse("mprotect", 10, page, 4096, 3)

# %% write-by-truncating: O_TRUNC, truncate and fallocate of what is read only
must_fail("truncate", os.truncate, os.__file__, 0)
must_fail("O_TRUNC", os.open, os.__file__, os.O_RDONLY | os.O_TRUNC)
number = os.open(os.__file__, os.O_RDONLY)
must_refuse("fallocate", 285, number, 3, 0, 4096)
must_refuse("copy_file_range", 326, number, 0, number, 0, 16, 0)
must_refuse("sendfile", 40, number, number, 0, 16)

# %% write-attributes: mode, owner, times, extended attributes
for what, action in (
    ("chmod", lambda: os.chmod(os.__file__, 0o777)), ("utime", lambda: os.utime(os.__file__)),
    ("chown", lambda: os.chown(os.__file__, 1000, 1000)), ("xattr", lambda: os.setxattr(os.__file__, "user.x", b"x")),
    ("xattr of ours", lambda: os.setxattr("/tmp", "user.x", b"x")), ("remove", lambda: os.remove(os.__file__)),
):
    must_fail(what, action)

# %% write-dirty-pipe: pages of a file in a pipe, then written over (CVE-2022-0847)
reader, writer = os.pipe()
os.write(writer, bytes(65536))
os.read(reader, 65536)
must_refuse("splice", 275, os.open(os.__file__, os.O_RDONLY), 0, writer, 0, 1, 0)
must_refuse("vmsplice", 278, writer, struct.pack("QQ", 0, 1), 1, 0)
must_refuse("tee", 276, reader, writer, 1, 0)

# %% write-dirty-cow: madvise against a private mapping of a library that is being written (CVE-2016-5195)
before = open("/lib/libc.so.6", "rb").read(16)
number = os.open("/lib/libc.so.6", os.O_RDONLY)
page = call(9, 0, 4096, 3, 2, number, 0)
for _ in range(1000):
    ctypes.memmove(page, b"owned!", 6)
    call(28, page, 4096, 4)
pwn("changed") if open("/lib/libc.so.6", "rb").read(16) != before else print("unchanged")

# %% set-user-id: a program of root's among the files that are there
for folder in ("/python/bin", "/lib", LIBRARY):
    for name in os.listdir(folder):
        mode = os.lstat(folder + "/" + name).st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            pwn(name)
open("/tmp/suid", "w").close()
os.chmod("/tmp/suid", 0o6777)
must_fail("exec", os.execv, "/tmp/suid", ["x"])
