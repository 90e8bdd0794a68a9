package fencer

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// netAdmin is the right to close the wire. Only the fencer is to have it: not the agent that starts
// it, nor the server that it starts.
const netAdmin = uint32(1) << unix.CAP_NET_ADMIN

// DropWireRight gives up, in all threads of this process and for whatever it starts, the right that
// only the fencer needs. An agent calls it once its fencer runs. A process that became another user
// than root has lost it by that.
func DropWireRight() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop CAP_NET_ADMIN: %w", err)
	}
	if (sets[0].Permitted|sets[0].Inheritable)&netAdmin == 0 {
		return nil
	}
	sets[0].Effective &^= netAdmin
	sets[0].Permitted &^= netAdmin
	sets[0].Inheritable &^= netAdmin // and so it is no ambient one either
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	return dropped(errno)
}

// keepWireRight lets no process inherit the right that is started from here. Where the program file
// bears it, as in the image, the second has it all the same.
func keepWireRight() error {
	set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, unix.CAP_NET_ADMIN, 0, 0)
	if err != nil || set == 0 {
		return nil //nolint:nilerr // a kernel without such rights
	}
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER,
		unix.CAP_NET_ADMIN, 0, 0, 0)
	return dropped(errno)
}

func dropped(errno syscall.Errno) error {
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, unix.ENOTSUP):
		return errors.New("drop CAP_NET_ADMIN: not possible in a program that was built with cgo")
	}
	return fmt.Errorf("drop CAP_NET_ADMIN: %w", errno)
}
