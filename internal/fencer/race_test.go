//go:build race

package fencer

// raceDetector says that allocations are not only the program's own.
const raceDetector = true
