// Program demo shows what pgha is for, on this machine and in about a minute: it starts a cluster
// of three nodes, writes a hundred rows a second through HAProxy, kills the primary's node the
// hard way, and tells what clients saw.
//
// It exits with 0 only if every promise was kept: writes came back, every acknowledged row is
// there, no two servers took writes at once, and the dead node healed.
package main
