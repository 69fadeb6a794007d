"""What an application does with redis-py, in both protocol versions. The argument is the server's port."""

import sys

import redis

for protocol in (2, 3):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    r.flushall()
    assert r.ping()
    assert r.set("a", "1", ex=100) and r.get("a") == "1" and 0 < r.ttl("a") <= 100
    assert r.set("a", "2", nx=True) is None
    assert r.incrby("n", 5) == 5 and r.incrbyfloat("f", 0.5) == 0.5
    assert r.mset({"x": "1", "y": "2"}) and r.mget("x", "y", "z") == ["1", "2", None]
    assert r.rpush("l", "a", "b", "c") == 3 and r.lrange("l", 0, -1) == ["a", "b", "c"]
    assert r.lmove("l", "l2", "LEFT", "RIGHT") == "a" and r.lpop("l", 2) == ["b", "c"]
    assert r.hset("h", mapping={"f": "1", "g": "2"}) == 2 and r.hgetall("h") == {"f": "1", "g": "2"}
    assert r.sadd("s", "a", "b") == 2 and r.smembers("s") == {"a", "b"} and r.sismember("s", "a")
    assert r.zadd("z", {"a": 1, "b": 2.5}) == 2
    assert [list(pair) for pair in r.zrange("z", 0, -1, withscores=True)] == [["a", 1.0], ["b", 2.5]]
    assert r.zscore("z", "b") == 2.5 and r.zrank("z", "b") == 1
    with r.pipeline() as pipe:
        pipe.watch("a")
        pipe.multi()
        pipe.incr("a").get("a")
        assert pipe.execute() == [2, "2"]
    try:
        with r.pipeline() as pipe:
            pipe.watch("a")
            r.set("a", "changed")
            pipe.multi()
            pipe.get("a")
            pipe.execute()
        raise SystemExit("a changed key was not noticed")
    except redis.WatchError:
        pass
    try:
        r.lpush("a", "x")
        raise SystemExit("a wrong type was not noticed")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE")
    assert set(r.scan_iter()) == set(r.keys("*")) and r.dbsize() == len(r.keys("*"))
    assert sorted(r.sscan_iter("s")) == ["a", "b"] and dict(r.hscan_iter("h")) == {"f": "1", "g": "2"}
    assert r.info("server")["redis_version"].startswith("7.0")
    assert r.info("replication")["role"] == "master" and r.role()[0] in ("master", b"master")
    assert r.config_get("port")["port"] == sys.argv[1]
    assert r.client_setname("me") and r.client_getname() == "me" and any(c["name"] == "me" for c in r.client_list())
    assert r.object("encoding", "s") == "hashtable" and r.type("z") == "zset"
    assert r.command_count() > 100 and "get" in {name.lower() for name in r.command()}
    assert r.time()[0] > 0 and r.lastsave() and r.bgsave()
    r.close()
print("ok")
