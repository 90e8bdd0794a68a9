package postgres

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// smallFileMax is far more than any file that is read whole at every look at the server.
const smallFileMax = 1 << 20

// readSmall reads a regular file, at most n bytes of it, as os.ReadFile does. It is for what is read at
// every look at an idle server: os.ReadFile first offers the descriptor to the poller, in vain, which
// more than doubles the system calls.
func readSmall(path string, n int) ([]byte, error) {
	fail := func(op string, err error) ([]byte, error) {
		return nil, &fs.PathError{Op: op, Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return fail("open", err)
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, min(n, 2048))
	for have := 0; ; {
		got, err := unix.Read(fd, buf[have:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fail("read", err)
		case got == 0, have+got == n:
			return buf[:have+got], nil
		}
		have += got
		if have > smallFileMax {
			return fail("read", fmt.Errorf("longer than %d bytes", smallFileMax))
		}
		if have == len(buf) {
			buf = append(buf, make([]byte, min(len(buf), n-len(buf)))...)
		}
	}
}
