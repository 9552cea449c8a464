-- Name keys by their digests that an older worker named by what they are made of.
--
-- A digest that has a root already keeps it. It was given by a worker of today, or it is of an older lineage that was
-- renamed before an older worker, in the midst of a reading, began the last lineage of its own.
--
-- KEYS[1] hash: key (workflow version and fingerprint) -> root
-- ARGV[1] old name, ARGV[2] digest, repeated
-- Returns how many were renamed.
local renamed = 0
for i = 1, #ARGV, 2 do
  local root = redis.call('HGET', KEYS[1], ARGV[i])
  if root then
    redis.call('HSETNX', KEYS[1], ARGV[i + 1], root)
    redis.call('HDEL', KEYS[1], ARGV[i])
    renamed = renamed + 1
  end
end
return renamed
