// Package integration tells one story per promise, with real agents, PostgreSQL, etcd and HAProxy,
// and real faults: kill -9, SIGSTOP, cut links, full disks. Each story proves that its fault
// happened, and what the clients were promised is judged by what they wrote down.
//
// Run it with `make integration`, as root: PostgreSQL then runs as the user postgres, and links can
// be cut in network namespaces. The programs under test are those of $PGHA_BIN or bin/; without
// either they are built.
package integration
