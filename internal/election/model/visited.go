package model

import (
	"hash/maphash"
	"unsafe"
)

// vector is a state in parts: the store's content, each member, and the rest, each by its number in a pool of
// all that were met. Parts are few and states many, so that a state takes little room and is still told apart
// from every other exactly: no two states are taken for one by chance.
type vector [maxMembers + 2]uint32

// entry is a state that was visited, and how.
type entry struct {
	vec         vector
	parent, via uint32
}

const chunkBits = 16

// visited keeps the states of a walk in the order in which they were met, so that a breadth-first walk needs no
// other queue.
type visited struct {
	seed    maphash.Seed
	n       int
	chunks  []*[1 << chunkBits]entry
	table   []uint64 // 32 bits of hash, 32 of number plus one
	members pool
	rests   pool
}

func newVisited() visited {
	var s State
	seed := maphash.MakeSeed()
	return visited{
		seed: seed, table: make([]uint64, 1<<chunkBits),
		members: newPool(seed, int(unsafe.Sizeof(s.m[0]))), rests: newPool(seed, len(s.rest())),
	}
}

func (v *visited) at(id uint32) *entry { return &v.chunks[id>>chunkBits][id&(1<<chunkBits-1)] }

// pack finds the parts of a state. What it shares with the state it comes from need not be looked up.
func (v *visited) pack(s, from *State, as *vector) vector {
	var out vector
	out[0] = uint32(s.store.index())
	for i := range s.m {
		if from != nil && s.m[i] == from.m[i] {
			out[1+i] = as[1+i]
		} else {
			out[1+i] = v.members.id(s.m[i].bytes())
		}
	}
	out[1+maxMembers] = v.rests.id(s.rest())
	return out
}

func (v *visited) unpack(vec *vector, s *State) {
	s.store = mkRef(int(vec[0]))
	for i := range s.m {
		copy(s.m[i].bytes(), v.members.get(vec[1+i]))
	}
	copy(s.rest(), v.rests.get(vec[1+maxMembers]))
}

// add gives a state a number. The second result is false if it was seen before.
func (v *visited) add(vec vector, parent uint32, via step) (uint32, bool) {
	h := uint64(uint32(maphash.Comparable(v.seed, vec)))
	mask := uint64(len(v.table) - 1)
	i := h & mask
	for ; v.table[i] != 0; i = (i + 1) & mask {
		if v.table[i]>>32 == h {
			if id := uint32(v.table[i]) - 1; v.at(id).vec == vec {
				return id, false
			}
		}
	}
	id := uint32(v.n)
	v.table[i] = h<<32 | uint64(id+1)
	if v.n>>chunkBits == len(v.chunks) {
		v.chunks = append(v.chunks, new([1 << chunkBits]entry))
	}
	*v.at(id) = entry{vec, parent, via.pack()}
	v.n++
	if v.n*4 > len(v.table)*3 {
		v.table = doubled(v.table)
	}
	return id, true
}

// doubled is a table of twice the size. The hash of each entry is the upper half of it.
func doubled(old []uint64) []uint64 {
	table := make([]uint64, 2*len(old))
	mask := uint64(len(table) - 1)
	for _, e := range old {
		if e == 0 {
			continue
		}
		i := e >> 32 & mask
		for table[i] != 0 {
			i = (i + 1) & mask
		}
		table[i] = e
	}
	return table
}

// pool numbers byte strings of one size.
type pool struct {
	seed  maphash.Seed
	size  int
	data  []byte
	n     int
	table []uint64
}

func newPool(seed maphash.Seed, size int) pool {
	return pool{seed: seed, size: size, table: make([]uint64, 1<<10)}
}

func (p *pool) get(id uint32) []byte { return p.data[int(id)*p.size : (int(id)+1)*p.size] }

func (p *pool) id(b []byte) uint32 {
	h := uint64(uint32(maphash.Bytes(p.seed, b)))
	mask := uint64(len(p.table) - 1)
	i := h & mask
	for ; p.table[i] != 0; i = (i + 1) & mask {
		if p.table[i]>>32 == h {
			if id := uint32(p.table[i]) - 1; string(p.get(id)) == string(b) {
				return id
			}
		}
	}
	id := uint32(p.n)
	p.table[i] = h<<32 | uint64(id+1)
	p.data = append(p.data, b...)
	p.n++
	if p.n*4 > len(p.table)*3 {
		p.table = doubled(p.table)
	}
	return id
}
