using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Trust;

namespace Ministries.Hosting.Tests;

/// <summary>Bytes that pass the walk can be parsed, and every parsed request can be validated. So no request can make the service
/// fail.</summary>
public class ReadableTests
{
    public static TheoryData<string> Requests => [.. Methods.Names];

    [Theory]
    [MemberData(nameof(Requests))]
    public void Whatever_passes_the_walk_can_be_parsed_and_judged(string method)
    {
        var type = Methods.Find(method)!.InputType;
        var seed = Environment.TickCount;
        var random = new Random(seed);
        for (var i = 0; i < 400; i++)
        {
            var bytes = Fill(type, random, 0).ToByteArray();
            if (i % 2 == 1)
                bytes = Spoil(bytes, random);
            try
            {
                if (WireWalk.Walk(type, bytes).Count > 0)
                    continue;
                var request = type.Parser.ParseFrom(bytes);
                Assert.All(Validation.Check(request), f => Assert.False(string.IsNullOrEmpty(f.Description)));
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, round {i}, {Convert.ToHexString(bytes)}: {e}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public void Messages_of_a_client_library_pass_the_walk(string method)
    {
        var type = Methods.Find(method)!.InputType;
        var random = new Random(7);
        for (var i = 0; i < 50; i++)
            Assert.Empty(WireWalk.Walk(type, Fill(type, random, 0).ToByteArray()));
    }

    // A message with some of its fields set to anything.
    private static IMessage Fill(MessageDescriptor type, Random random, int depth)
    {
        var message = (IMessage)Activator.CreateInstance(type.ClrType)!;
        foreach (var field in type.Fields.InDeclarationOrder())
        {
            if (random.Next(4) == 0 || depth > 6 || field.IsMap)
                continue;
            if (!field.IsRepeated)
            {
                field.Accessor.SetValue(message, Value(field, random, depth));
                continue;
            }
            var list = (System.Collections.IList)field.Accessor.GetValue(message);
            for (var i = random.Next(4); i > 0; i--)
                list.Add(Value(field, random, depth));
        }
        return message;
    }

    private static object Value(FieldDescriptor field, Random random, int depth) =>
        field.FieldType switch
        {
            FieldType.String => new string((char)random.Next(' ', 0x2000), random.Next(80)),
            FieldType.Bytes => ByteString.CopyFrom(new byte[random.Next(100)]),
            FieldType.Bool => random.Next(2) == 0,
            FieldType.Enum => Enum.ToObject(field.EnumType.ClrType, random.Next(-2, 12)),
            FieldType.Message => Fill(field.MessageType, random, depth + 1),
            FieldType.Int32 or FieldType.SInt32 or FieldType.SFixed32 => random.Next(int.MinValue, int.MaxValue),
            FieldType.UInt32 or FieldType.Fixed32 => (uint)random.Next(),
            FieldType.Int64 or FieldType.SInt64 or FieldType.SFixed64 => random.NextInt64(long.MinValue, long.MaxValue),
            FieldType.UInt64 or FieldType.Fixed64 => (ulong)random.NextInt64(),
            FieldType.Double => random.Next(3) switch
            {
                0 => double.NaN,
                1 => double.NegativeInfinity,
                _ => random.NextDouble(),
            },
            FieldType.Float => random.Next(2) == 0 ? float.NaN : random.NextSingle(),
            _ => throw new NotSupportedException(field.FullName),
        };

    private static byte[] Spoil(byte[] bytes, Random random)
    {
        var list = bytes.ToList();
        for (var i = random.Next(1, 5); i > 0; i--)
        {
            var at = random.Next(list.Count + 1);
            switch (random.Next(4))
            {
                case 0:
                    list.Insert(at, (byte)random.Next(256));
                    break;
                case 1 when at < list.Count:
                    list.RemoveAt(at);
                    break;
                case 2 when at < list.Count:
                    list[at] = (byte)random.Next(256);
                    break;
                default:
                    list.RemoveRange(at, list.Count - at);
                    break;
            }
        }
        return [.. list];
    }
}
