// Program bench measures how long clients cannot write, in milliseconds, for each kind of fault,
// and what an agent costs while nothing happens.
//
// An outage is the longest time between two acknowledged writes around the fault, as seen by a
// client that writes a hundred rows a second and tries again every 10 ms. Two such clients run at
// once: one through HAProxy with the shipped health checks, one with a connection string that names
// every member. On a machine of two cores an undisturbed writer sees gaps of up to 150 ms, so the
// program measures that too, as the fault "none".
package main
