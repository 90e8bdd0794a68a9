package dcs

// Keys relative to the cluster's base path (rows D of the interface). The pgha/ keys are our own;
// a Patroni ignores them (row D-01).
const (
	KeyLeader     = "leader"
	KeyInitialize = "initialize"
	KeyConfig     = "config"
	KeyFailover   = "failover"
	KeySync       = "sync"
	KeyStatus     = "status"
	KeyHistory    = "history"
	KeyFailsafe   = "failsafe"
	KeyOptime     = "optime/leader"

	PrefixMembers = "members/"

	// KeyEpoch counts the reigns: {epoch, holder, parent timeline, next timeline, LSN}.
	// Written in the transaction that takes the leader key.
	KeyEpoch = "pgha/epoch"
	// KeyRelease is the clean-release record: which leader revision was given up with its server
	// down. Written in the transaction that deletes or hands over the leader key.
	KeyRelease = "pgha/release"
	// PrefixOffer holds one key per member that offers its lease for a hand-over.
	PrefixOffer = "pgha/offer/"
	// PrefixVote holds one key per member that ever froze its server in order to vote. It hangs on no
	// lease, and is emptied rather than deleted: so its revision tells the votes of one member apart,
	// and a vote that is still on its way cannot arrive after it was withdrawn.
	PrefixVote = "pgha/vote/"
	// KeyBootstrap says who bootstraps, under that member's lease, so that a bootstrapper that
	// dies hard does not block the cluster for ever (row D-46 is the incumbent's hole).
	KeyBootstrap = "pgha/bootstrap"
	// KeyClaim says, without a lease, which member began the bootstrap. It is written in the same
	// transaction as the initialize key, so that equal mod revisions bind the two: a missing
	// KeyBootstrap then means that the bootstrapper died.
	KeyClaim = "pgha/claim"
)

// MemberKey is the key of one member.
func MemberKey(name string) string { return PrefixMembers + name }

// OfferKey is the key under which a member offers its lease.
func OfferKey(name string) string { return PrefixOffer + name }

// VoteKey is the key under which a member says where its frozen log ends.
func VoteKey(name string) string { return PrefixVote + name }
