package wire

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Names within the table.
const (
	chainOutput = "output"
	chainServer = "server"
	setAlive    = "alive"
	setLifted   = "lifted"
)

const (
	// early is before connection tracking and whatever else filters on this machine.
	early = -350
	// serviceType is how nft(8) shows a port.
	serviceType = 13
)

// Places in the headers of a packet.
const (
	sourcePort    = 0
	targetPort    = 2
	tcpFlags      = 13
	tcpReset      = 0x04
	datagram      = 8
	ipv4Source    = 12
	ipv6Source    = 8
	ipv4SourceLen = 4
	ipv6SourceLen = 16
)

// rules writes the messages of one table:
//
//	table inet pgha_5432 {
//	  set alive  { type inet_service; flags timeout; elements = { 5432 timeout … } }
//	  set lifted { type inet_service; flags dynamic }
//	  chain server {
//	    tcp flags & rst != 0 accept          # carries no data
//	    tcp sport @alive accept
//	    tcp sport @lifted accept
//	    reject with tcp reset                # the socket that sent it ends here
//	  }
//	  chain output {
//	    type filter hook output priority -350
//	    udp dport 5432 @th,64,128 <secret> add @lifted { udp dport } drop
//	    tcp sport 5432 [ip saddr …] jump server
//	  }
//	}
type rules struct {
	*batch
	e     Endpoint
	table string
}

func (r *rules) port() []byte { return binary.BigEndian.AppendUint16(nil, r.e.Port) }

// drop removes a table that is there.
func (r *rules) drop() {
	r.batch.table(unix.NFT_MSG_DELTABLE, 0)
	r.text(unix.NFTA_TABLE_NAME, r.table)
}

// remove removes the table whether it is there or not.
func (r *rules) remove() {
	r.newTable()
	r.drop()
}

func (r *rules) newTable() {
	r.batch.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	r.text(unix.NFTA_TABLE_NAME, r.table)
}

func (r *rules) create(secret Secret) {
	r.newTable()
	r.set(setAlive, 1, unix.NFT_SET_TIMEOUT)
	r.set(setLifted, 2, unix.NFT_SET_EVAL)
	r.chains()
	r.rule(chainServer, func() {
		r.load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, tcpFlags, 1)
		r.mask(tcpReset)
		r.compare(unix.NFT_CMP_NEQ, []byte{0})
		r.accept()
	})
	for _, set := range []string{setAlive, setLifted} {
		r.rule(chainServer, func() {
			r.load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, sourcePort, 2)
			r.lookup(set)
			r.accept()
		})
	}
	r.rule(chainServer, r.reject)
	r.rule(chainOutput, func() {
		r.protocol(unix.IPPROTO_UDP)
		r.load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, datagram, uint32(len(secret)))
		r.compare(unix.NFT_CMP_EQ, secret[:])
		r.load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, targetPort, 2)
		r.compare(unix.NFT_CMP_EQ, r.port())
		r.add(setLifted)
		r.verdict(verdictDrop, "")
	})
	if len(r.e.Addresses) == 0 {
		r.rule(chainOutput, func() { r.jump(netip.Addr{}) })
	}
	for _, a := range r.e.Addresses {
		r.rule(chainOutput, func() { r.jump(a) })
	}
}

func (r *rules) set(name string, id, flags uint32) {
	r.batch.table(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	r.text(unix.NFTA_SET_TABLE, r.table)
	r.text(unix.NFTA_SET_NAME, name)
	r.u32(unix.NFTA_SET_FLAGS, flags)
	r.u32(unix.NFTA_SET_KEY_TYPE, serviceType)
	r.u32(unix.NFTA_SET_KEY_LEN, 2)
	r.u32(unix.NFTA_SET_ID, id)
}

// alive adds or removes the element that keeps the port open.
func (r *rules) alive(kind uint16, ms uint64) {
	r.batch.table(kind, unix.NLM_F_CREATE)
	r.text(unix.NFTA_SET_ELEM_LIST_TABLE, r.table)
	r.text(unix.NFTA_SET_ELEM_LIST_SET, setAlive)
	r.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		r.nest(unix.NFTA_LIST_ELEM, func() {
			r.nest(unix.NFTA_SET_ELEM_KEY, func() { r.bytes(unix.NFTA_DATA_VALUE, r.port()) })
			if ms > 0 {
				r.u64(unix.NFTA_SET_ELEM_TIMEOUT, ms)
			}
		})
	})
}

func (r *rules) chains() {
	r.batch.table(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	r.text(unix.NFTA_CHAIN_TABLE, r.table)
	r.text(unix.NFTA_CHAIN_NAME, chainServer)
	r.batch.table(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	r.text(unix.NFTA_CHAIN_TABLE, r.table)
	r.text(unix.NFTA_CHAIN_NAME, chainOutput)
	r.nest(unix.NFTA_CHAIN_HOOK, func() {
		before := int32(early)
		r.u32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT)
		r.u32(unix.NFTA_HOOK_PRIORITY, uint32(before))
	})
	r.u32(unix.NFTA_CHAIN_POLICY, verdictAccept)
	r.text(unix.NFTA_CHAIN_TYPE, "filter")
}

func (r *rules) rule(chain string, expressions func()) {
	r.batch.table(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	r.text(unix.NFTA_RULE_TABLE, r.table)
	r.text(unix.NFTA_RULE_CHAIN, chain)
	r.nest(unix.NFTA_RULE_EXPRESSIONS, expressions)
}

func (r *rules) expression(name string, data func()) {
	r.nest(unix.NFTA_LIST_ELEM, func() {
		r.text(unix.NFTA_EXPR_NAME, name)
		r.nest(unix.NFTA_EXPR_DATA, data)
	})
}

// jump sends what the server sends from one of its addresses, or from any, to its own chain.
func (r *rules) jump(from netip.Addr) {
	r.protocol(unix.IPPROTO_TCP)
	r.load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, sourcePort, 2)
	r.compare(unix.NFT_CMP_EQ, r.port())
	if from.IsValid() {
		family, at, size := byte(unix.NFPROTO_IPV4), uint32(ipv4Source), uint32(ipv4SourceLen)
		if from.Is6() {
			family, at, size = unix.NFPROTO_IPV6, ipv6Source, ipv6SourceLen
		}
		r.meta(unix.NFT_META_NFPROTO)
		r.compare(unix.NFT_CMP_EQ, []byte{family})
		r.load(unix.NFT_PAYLOAD_NETWORK_HEADER, at, size)
		r.compare(unix.NFT_CMP_EQ, from.AsSlice())
	}
	r.verdict(unix.NFT_JUMP, chainServer)
}

func (r *rules) protocol(number byte) {
	r.meta(unix.NFT_META_L4PROTO)
	r.compare(unix.NFT_CMP_EQ, []byte{number})
}

func (r *rules) meta(key uint32) {
	r.expression("meta", func() {
		r.u32(unix.NFTA_META_KEY, key)
		r.u32(unix.NFTA_META_DREG, unix.NFT_REG_1)
	})
}

func (r *rules) load(base, offset, size uint32) {
	r.expression("payload", func() {
		r.u32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		r.u32(unix.NFTA_PAYLOAD_BASE, base)
		r.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		r.u32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

func (r *rules) mask(bits byte) {
	r.expression("bitwise", func() {
		r.u32(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1)
		r.u32(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1)
		r.u32(unix.NFTA_BITWISE_LEN, 1)
		r.nest(unix.NFTA_BITWISE_MASK, func() { r.bytes(unix.NFTA_DATA_VALUE, []byte{bits}) })
		r.nest(unix.NFTA_BITWISE_XOR, func() { r.bytes(unix.NFTA_DATA_VALUE, []byte{0}) })
	})
}

func (r *rules) compare(how uint32, value []byte) {
	r.expression("cmp", func() {
		r.u32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		r.u32(unix.NFTA_CMP_OP, how)
		r.nest(unix.NFTA_CMP_DATA, func() { r.bytes(unix.NFTA_DATA_VALUE, value) })
	})
}

func (r *rules) lookup(set string) {
	r.expression("lookup", func() {
		r.text(unix.NFTA_LOOKUP_SET, set)
		r.u32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1)
	})
}

func (r *rules) add(set string) {
	r.expression("dynset", func() {
		r.text(unix.NFTA_DYNSET_SET_NAME, set)
		r.u32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_ADD)
		r.u32(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG_1)
	})
}

func (r *rules) reject() {
	r.expression("reject", func() {
		r.u32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_TCP_RST)
		r.bytes(unix.NFTA_REJECT_ICMP_CODE, []byte{0})
	})
}

// Verdicts as the kernel numbers them.
const (
	verdictDrop   = 0
	verdictAccept = 1
)

func (r *rules) accept() { r.verdict(verdictAccept, "") }

func (r *rules) verdict(code int32, chain string) {
	r.expression("immediate", func() {
		r.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		r.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			r.nest(unix.NFTA_DATA_VERDICT, func() {
				r.u32(unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					r.text(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	})
}
