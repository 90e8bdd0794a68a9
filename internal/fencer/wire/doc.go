// Package wire closes the TCP port of one server in the kernel's packet filter, at a time that was
// told in advance and whether or not any process is left to do it.
//
// The fence is a table of nftables of our own. It lets a packet of the port out while an element of
// a set lives; the element has a timeout, which the kernel counts. Once it has expired, whatever the
// server sends is dropped, and the socket that sent it is reset, so that nothing of it is sent again
// when the fence is lifted.
//
// The kernel is spoken to by netlink itself: a renewal is one system call to send and one to
// receive, some tens of microseconds, and no program is started (decision 10).
package wire
