
if not answer and i > 1 then
  if many then write_waiting() end
  -- Whatever becomes of the reservation that it names.
  if kind <= 3 or kind == 8 then raws[get('<I2', op, 2)] = nil end
  local done, said_so = pcall(f[operations[kind]], op, 2)
  -- What came before has its records, and must have its charges: they are written before the caller hears of it.
  -- Of what it did itself nothing is left to be given back, or taken, once more.
  if not done then
    if unfinished then redis.pcall('DEL', unfinished) end
    failed = said_so
    break
  end
  answer = said_so
end
answers[i] = answer
