// Program storm breaks a cluster of real processes for as long as it is told to, at random but
// repeatably (a seed gives the same plan of faults), while clients write, and then judges what the
// clients were promised.
//
// Two kinds of clients write. Ledger writers insert rows and note which server acknowledged each of
// them and when: through the proxy, directly to whichever server takes writes, and over sessions to
// every server that are never given up. List clients append unique numbers to lists in
// transactions and read whole lists; their history is checked for consistency.
//
// A fault that could not be made ends the storm, and it is red: a storm that tested nothing must not
// pass. Of two faults at once the second may find nothing left to break; it is counted as void.
//
// The exit code is 0 if the verdict is green, 1 if it is red, 2 if the storm could not begin.
package main
