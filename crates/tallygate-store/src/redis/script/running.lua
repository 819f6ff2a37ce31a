
if not answer and i > 1 then
  if many then write_waiting() end
  -- Whatever becomes of the reservation that it names.
  if kind <= 3 or kind == 8 then raws[get('<I2', op, 2)] = nil end
  answer = f[operations[kind]](op, 2)
end
answers[i] = answer
