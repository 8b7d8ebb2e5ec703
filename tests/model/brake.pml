/*
 * Can any order of steps, crashes and lost answers get money past the cap, or out of the count?
 *
 * The way of a call as keybrake/guard/call.py and keybrake/ledger/ go it, taken apart into the steps
 * between which a process can be killed. Processes charge two runs under one parent, one of them
 * forks, somebody revokes a run, somebody reconciles what is in doubt, and a vendor carries
 * requests out, declines them, fails before or after it did, and is slow. What has to hold stands
 * in CHECK, and is looked at after every step that changes the ledger or moves money. README.md
 * says what it was run with and what came out; run_spin.py runs it.
 *
 * Left out: several limits and windows, positions that several calls share, threads that share a
 * transaction, and power cuts. The other models of this folder have the first two.
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef CALLS
#define CALLS 1                         /* that each process makes */
#endif
#ifndef CRASHES
#define CRASHES 1                       /* in one history, at any step of any process */
#endif
#ifndef RECONCILERS
#define RECONCILERS 1
#endif

/* The last agent is the child of a fork. */
#ifdef WITHOUT_FORK
#define AGENTS PROCESSES
#else
#define AGENTS (PROCESSES + 1)
#endif
#define CHILD PROCESSES
#define TOTAL (AGENTS * CALLS)
#define REVOKER AGENTS
#define RECONCILER (AGENTS + 1)
#define NOBODY 255
#define DEAD_PARENT 254                 /* a lock of the parent's that only its child still holds */

/* A call sets two units aside; the vendor takes one or two. */
#define WORST 2
#define CAP_OF_RUN 3
#define CAP_OF_PARENT 4
#define PARENT 2                        /* the runs in it are 0 and 1 */
#define RUN_OF(agent) ((agent) % 2)
#define AGENT_OF(call) ((call) / CALLS)

#define NONE 0
#define RESERVED 1
#define SETTLED 2
#define VOIDED 3
#define UNKNOWN 4

#define SILENCE 0
#define SUCCESS 1
#define DECLINED 2
#define FAILURE 3                       /* a 5xx, a reset, a timeout: it happened or it did not */

/* The ledger: what is committed. */
byte spent[3];
byte set_aside[3];
byte state[TOTAL];
byte cost[TOTAL];
bool revoked;                           /* run 0 */

/* The lock of the file, the transaction of SQLite, and whose call a row still is. */
byte lock_of = NOBODY;
byte transaction_of = NOBODY;
bool mine[TOTAL];

/* The vendor, by the idempotency key of each call. */
bool travels[TOTAL];
bool used[TOTAL];
byte moved[TOTAL];
byte answer[TOTAL];

/* The processes. */
byte crashes;
byte left;                              /* agents that have not finished */
byte parent = NOBODY;                   /* who forked */
bool inherits;                          /* the child has yet to close its parent's files */
bool locked_out;                        /* it has a lock of threads that a thread it lacks held */

/* Only the assertions look at these. */
bool revoke_returned;
byte endings[TOTAL];

/* Scratch, used within one step only, and no part of the state. */
hidden byte i, sum, held, out;

#define OPEN(c) (state[c] == RESERVED || state[c] == UNKNOWN)
/* The lock of an owner's file is let go by its death, unless a child has the same file open. */
#define OWNER_IS_GONE(c) (!mine[c] && !(inherits && parent == AGENT_OF(c)))
#ifdef LATE
#define IN_DOUBT(c) OPEN(c)             /* whatever is open was admitted a quarter of an hour ago */
#else
#define IN_DOUBT(c) (state[c] == UNKNOWN || (state[c] == RESERVED && OWNER_IS_GONE(c)))
#endif

/* Whether something holds of any call, and a choice between all calls of which it holds. */
#if TOTAL == 2
#define ANY(p) (p(0) || p(1))
#define EACH(p) :: p(0) -> c = 0 :: p(1) -> c = 1
#elif TOTAL == 3
#define ANY(p) (p(0) || p(1) || p(2))
#define EACH(p) :: p(0) -> c = 0 :: p(1) -> c = 1 :: p(2) -> c = 2
#elif TOTAL == 4
#define ANY(p) (p(0) || p(1) || p(2) || p(3))
#define EACH(p) :: p(0) -> c = 0 :: p(1) -> c = 1 :: p(2) -> c = 2 :: p(3) -> c = 3
#elif TOTAL == 6
#define ANY(p) (p(0) || p(1) || p(2) || p(3) || p(4) || p(5))
#define EACH(p) :: p(0) -> c = 0 :: p(1) -> c = 1 :: p(2) -> c = 2 \
                :: p(3) -> c = 3 :: p(4) -> c = 4 :: p(5) -> c = 5
#else
#error "no choice between so many calls is written down"
#endif
#define TRAVELS(c) travels[c]

/* Everything the promises say. */
inline CHECK()
{
    i = 0; sum = 0; held = 0; out = 0;
    do
    :: i < TOTAL ->
        assert(endings[i] <= 1);                            /* it resolves at most once */
        assert(!used[i] || state[i] != NONE);               /* it was written down before it was sent */
        assert(moved[i] == 0 || OPEN(i) || (state[i] == SETTLED && cost[i] >= moved[i]));
        if
        :: state[i] == SETTLED -> sum = sum + cost[i]
        :: OPEN(i) -> held = held + WORST
        :: else
        fi;
        out = out + moved[i];
        i++
    :: else -> break
    od;
    assert(spent[PARENT] == sum && set_aside[PARENT] == held);   /* totals are sums */
    assert(spent[PARENT] == spent[0] + spent[1]);
    assert(set_aside[PARENT] == set_aside[0] + set_aside[1]);
    assert(spent[0] + set_aside[0] <= CAP_OF_RUN);               /* never over a cap */
    assert(spent[1] + set_aside[1] <= CAP_OF_RUN);
    assert(spent[PARENT] + set_aside[PARENT] <= CAP_OF_PARENT);
    assert(out <= spent[PARENT] + set_aside[PARENT])             /* what moved is counted */
}

/* The lock of the file, then BEGIN IMMEDIATE, which waits as well. */
#ifdef BROKEN_NO_TRANSACTION
#define FREE true
#define TAKE(me) skip
#define COMMIT skip
#define UNLOCK skip
#else
#define COMMIT transaction_of = NOBODY
#ifdef WITHOUT_LOCK
#define FREE (transaction_of == NOBODY)
#define TAKE(me) transaction_of = me
#define UNLOCK skip
#else
#define FREE (lock_of == NOBODY && transaction_of == NOBODY)
#define TAKE(me) lock_of = me; transaction_of = me
#define UNLOCK lock_of = NOBODY
#endif
#endif

/* Set aside in every scope, on the row's account. */
inline SET_ASIDE(me, c)
{
    state[c] = RESERVED;
    set_aside[RUN_OF(me)] = set_aside[RUN_OF(me)] + WORST;
    set_aside[PARENT] = set_aside[PARENT] + WORST
}

/* End a call that is open: the totals move with the row. */
inline RESOLVE(c, new, price)
{
    endings[c]++;
    state[c] = new;
    cost[c] = price;
    set_aside[RUN_OF(AGENT_OF(c))] = set_aside[RUN_OF(AGENT_OF(c))] - WORST;
    set_aside[PARENT] = set_aside[PARENT] - WORST;
    spent[RUN_OF(AGENT_OF(c))] = spent[RUN_OF(AGENT_OF(c))] + price;
    spent[PARENT] = spent[PARENT] + price
}

/* Close what came from the parent; a lock that only this kept is free then. */
inline CLOSE_INHERITED()
{
    inherits = false;
    if
    :: lock_of == DEAD_PARENT -> lock_of = NOBODY
    :: else
    fi
}

/* What the system does with a process that was killed: it rolls back, and lets go of its locks. */
inline DIE(me)
{
    crashes++;
    if
    :: transaction_of == me -> transaction_of = NOBODY
    :: else
    fi;
    if
    :: lock_of == me && inherits && parent == me -> lock_of = DEAD_PARENT
    :: lock_of == me && !(inherits && parent == me) -> lock_of = NOBODY
    :: else
    fi;
    if
    :: me == CHILD -> CLOSE_INHERITED(); locked_out = false
    :: else
    fi;
    i = 0;
    do
    :: i < TOTAL ->
        if
        :: me < AGENTS && AGENT_OF(i) == me -> mine[i] = false; answer[i] = SILENCE
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Any step may be the one that a process is killed at, instead. */
#define OR_CRASH :: atomic { crashes < CRASHES -> d_step { DIE(me) }; goto dead }

proctype Agent(byte me)
{
    byte next;
    byte c;
    bool may = true;
    byte word;

    if
    :: me == CHILD ->
#ifndef BROKEN_FORK_DESCRIPTOR
        if
        :: atomic { CLOSE_INHERITED() }
        OR_CRASH
        fi;
#endif
        if
        :: !locked_out
        OR_CRASH
        fi
    :: else
    fi;

another:
    if
    :: next == CALLS -> goto over
    /* A process that is killed on the way of this call goes on with the next one. */
    :: next < CALLS -> atomic { c = me * CALLS + next; next++ }
    fi;
#ifdef BROKEN_STALE_REVOKE
    may = !(revoked && RUN_OF(me) == 0);
#endif

    /* admit: gather the facts, decide, write, commit. */
    if
    :: atomic {
        FREE -> TAKE(me);
        may = may && spent[RUN_OF(me)] + set_aside[RUN_OF(me)] + WORST <= CAP_OF_RUN;
#ifndef BROKEN_PARENT_FORGOTTEN
        may = may && spent[PARENT] + set_aside[PARENT] + WORST <= CAP_OF_PARENT;
#endif
#ifndef BROKEN_STALE_REVOKE
        may = may && !(revoked && RUN_OF(me) == 0)
#endif
    }
    OR_CRASH
    fi;
    if
    :: d_step {
        true ->
        if
        :: may ->
            assert(!(revoke_returned && RUN_OF(me) == 0));
#ifndef BROKEN_RECORD_AFTER
            SET_ASIDE(me, c);
#endif
            mine[c] = true
        :: else
        fi;
        COMMIT;
        CHECK()
    }
    OR_CRASH
    fi;
    if
    :: atomic { true -> UNLOCK }
    OR_CRASH
    fi;
    if
    :: !may -> goto dead                            /* refused: nothing is sent */
    :: may
    fi;

    if
    :: atomic { true -> travels[c] = true }
    OR_CRASH
    fi;

    /* settle by what was answered, or without: nobody waits for ever. */
    if
    :: atomic { FREE && answer[c] != SILENCE -> TAKE(me); word = answer[c] }
    :: atomic { FREE -> TAKE(me); word = FAILURE }
    OR_CRASH
    fi;
    if
    :: d_step {
        true ->
#ifdef BROKEN_RECORD_AFTER
        SET_ASIDE(me, c);
#endif
        if
        :: state[c] == RESERVED && word == SUCCESS -> RESOLVE(c, SETTLED, moved[c])
        :: state[c] == RESERVED && word == DECLINED -> RESOLVE(c, VOIDED, 0)
#ifdef BROKEN_VOID_ON_ERROR
        :: state[c] == RESERVED && word == FAILURE -> RESOLVE(c, VOIDED, 0)
#else
        :: state[c] == RESERVED && word == FAILURE -> state[c] = UNKNOWN
#endif
        :: else                                     /* somebody has resolved it meanwhile */
        fi;
        mine[c] = false;
        answer[c] = SILENCE;
        COMMIT;
        CHECK()
    }
    /* The disk is full, say: it is rolled back, and the row stays while this process lives. */
    :: d_step { true -> answer[c] = SILENCE; COMMIT }
    OR_CRASH
    fi;
    if
    :: atomic { true -> UNLOCK }
    OR_CRASH
    fi;
dead:
    atomic { may = true; word = SILENCE; c = 0 };
    goto another;
over:
    /* What it leaves behind is nobody's. */
    atomic {
        i = 0;
        do
        :: i < CALLS -> mine[me * CALLS + i] = false; i++
        :: else -> break
        od;
        left--; next = 0
    }
}

/* A thread of some agent forks, while another is anywhere on its way; or none does. */
proctype Forker()
{
    byte who;

    atomic {
        if
#ifdef BROKEN_FORK_HOOK
        :: who = 0
        :: who = 1
#else
        :: lock_of != 0 && transaction_of != 0 -> who = 0
        :: lock_of != 1 && transaction_of != 1 -> who = 1
#endif
        :: who = NOBODY
        fi;
        if
        :: who != NOBODY ->
            parent = who;
            inherits = true;
            locked_out = (lock_of == who);
            run Agent(CHILD)
        :: else -> left--
        fi;
        who = 0
    }
}

proctype Vendor()
{
    byte c;

    do
    :: atomic {
        if
        EACH(TRAVELS)
        fi;
        travels[c] = false;
        if
        :: !used[c] -> used[c] = true; moved[c] = 1; answer[c] = SUCCESS
        :: !used[c] -> used[c] = true; moved[c] = 2; answer[c] = SUCCESS
        :: !used[c] -> used[c] = true; moved[c] = 2; answer[c] = FAILURE
        :: !used[c] -> used[c] = true; answer[c] = DECLINED
        :: !used[c] -> answer[c] = FAILURE
        /* The key was used: it says again what happened then, and nothing happens again. */
        :: used[c] && moved[c] > 0 -> answer[c] = SUCCESS
        :: used[c] && moved[c] == 0 -> answer[c] = DECLINED
        fi;
        if
        :: !mine[c] -> answer[c] = SILENCE          /* nobody waits for it any more */
        :: else
        fi;
        CHECK();
        c = 0
    }
    :: left == 0 && !ANY(TRAVELS) -> break
    od
}

/* Repeat the call under its own key: what never arrived is carried out now. Then resolve it. */
proctype Reconciler(byte me)
{
    byte c;
    byte truth;

another:
    if
    :: atomic {
        if
        EACH(IN_DOUBT)
        fi;
        if
#ifdef BROKEN_RELEASE_ON_DEATH
        :: state[c] == RESERVED -> truth = 0        /* its process has ended, so let it go */
        :: state[c] == UNKNOWN && used[c] -> truth = moved[c]
        :: state[c] == UNKNOWN && !used[c] -> used[c] = true
#else
        :: used[c] -> truth = moved[c]
        :: !used[c] -> used[c] = true; moved[c] = 2; truth = 2
        :: !used[c] -> used[c] = true
#endif
        fi;
        CHECK()
    }
    OR_CRASH
    :: left == 0 && !ANY(IN_DOUBT) && !ANY(TRAVELS) -> goto over
    fi;
    if
    :: atomic { FREE -> TAKE(me) }
    OR_CRASH
    fi;
    if
    :: d_step {
        true ->
        if
#ifdef BROKEN_RESOLVE_TWICE
        :: truth > 0 -> RESOLVE(c, SETTLED, truth)
        :: truth == 0 -> RESOLVE(c, VOIDED, 0)
#else
        :: OPEN(c) && truth > 0 -> RESOLVE(c, SETTLED, truth)
        :: OPEN(c) && truth == 0 -> RESOLVE(c, VOIDED, 0)
        :: else                                     /* somebody else has resolved it meanwhile */
#endif
        fi;
        COMMIT;
        CHECK()
    }
    OR_CRASH
    fi;
    if
    :: atomic { true -> UNLOCK }
    OR_CRASH
    fi;
dead:
    atomic { c = 0; truth = 0 };
    goto another;
over:
    /* When all is over nothing is in doubt, and what was counted is what moved. */
    atomic {
        CHECK();
        assert(set_aside[PARENT] == 0);
        assert(spent[PARENT] == out)
    }
}

proctype Revoker(byte me)
{
    if
    :: atomic { FREE -> TAKE(me) }
    OR_CRASH
    fi;
    if
    :: d_step { true -> revoked = true; COMMIT; CHECK() }
    OR_CRASH
    fi;
    if
    :: atomic { true -> UNLOCK; revoke_returned = true }
    OR_CRASH
    fi;
dead:
    skip
}

init
{
    atomic {
        i = 0;
        do
        :: i < PROCESSES -> run Agent(i); left++; i++
        :: else -> break
        od;
#ifndef WITHOUT_FORK
        left++;
        run Forker();
#endif
        run Vendor();
#ifndef WITHOUT_REVOKE
        run Revoker(REVOKER);
#endif
        i = 0;
        do
        :: i < RECONCILERS -> run Reconciler(RECONCILER + i); i++
        :: else -> break
        od;
        i = 0
    }
}
